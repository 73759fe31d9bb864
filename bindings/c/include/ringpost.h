/*
 * Ringpost from C. Made by cbindgen from bindings/c/src: do not edit.
 *
 * Handles. Each handle that a function gives you through `out` is yours: end it by its _free, or by the
 * function that says that it takes the handle. Any thread may use a handle, one at a time: a second one gets
 * RINGPOST_IN_USE. Closers, servers and servings may be used by several threads at once. Do not free a
 * handle that another thread may still use.
 *
 * Errors. Functions return RINGPOST_OK or a code; ringpost_error_text() says more. NULL, a handle of another
 * kind, and a handle that was freed (one of the last 1024) are told by a code of their own. Any other
 * pointer that is not a handle is undefined behaviour, as everywhere in C. After a failure, `out` is untouched.
 *
 * Time. `timeout_ns` is the longest wait in nanoseconds: 0 does not wait, a negative number waits without
 * limit. A wait also ends with the connection.
 *
 * Pointers to payloads that a function gives you belong to the handle, and are valid until the next use of it.
 * Text is UTF-8, and ends with a NUL. Data may be NULL if its length is 0.
 */

#ifndef RINGPOST_H
#define RINGPOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * Of a text with its NUL, in bytes: a name.
 */
#define RINGPOST_NAME_SIZE 65

/**
 * Of a text with its NUL, in bytes: a topic.
 */
#define RINGPOST_TOPIC_SIZE 129

/**
 * Of a text with its NUL, in bytes: a key.
 */
#define RINGPOST_KEY_TEXT_SIZE 33

/**
 * What a function returns. New codes may be added: treat one that you do not know as a failure.
 */
typedef enum ringpost_status {
    /**
     * It was done.
     */
    RINGPOST_OK = 0,
    /**
     * A pointer that must not be NULL is NULL.
     */
    RINGPOST_NULL_POINTER = 1,
    /**
     * The handle is of another kind.
     */
    RINGPOST_WRONG_HANDLE = 2,
    /**
     * The handle was freed before.
     */
    RINGPOST_FREED_HANDLE = 3,
    /**
     * Another call uses this handle now: from another thread, or further up in this one.
     */
    RINGPOST_IN_USE = 4,
    /**
     * A text is not UTF-8, or a number is out of its range.
     */
    RINGPOST_INVALID_ARGUMENT = 5,
    /**
     * A bug in the library: it panicked. The handle should be freed.
     */
    RINGPOST_PANICKED = 6,
    /**
     * It did not happen in time.
     */
    RINGPOST_TIMED_OUT = 7,
    /**
     * There is no room now.
     */
    RINGPOST_FULL = 8,
    /**
     * The connection has ended. Nothing more will come of it.
     */
    RINGPOST_DISCONNECTED = 9,
    /**
     * The connection had ended before the request was sent.
     */
    RINGPOST_NOT_SENT = 10,
    /**
     * The server is shutting down.
     */
    RINGPOST_SHUTTING_DOWN = 11,
    /**
     * The handle belongs to the process that forked this one.
     */
    RINGPOST_FORKED = 12,
    /**
     * The payload is larger than what can be sent or kept here.
     */
    RINGPOST_TOO_LARGE = 13,
    /**
     * No client can have this name, or no topic this one.
     */
    RINGPOST_INVALID_NAME = 14,
    /**
     * Another client has the name.
     */
    RINGPOST_NAME_TAKEN = 15,
    /**
     * There is no such client.
     */
    RINGPOST_NOT_FOUND = 16,
    /**
     * The other client does not listen.
     */
    RINGPOST_NOT_SERVING = 17,
    /**
     * The other client has given up its inbox, or is gone.
     */
    RINGPOST_GONE = 18,
    /**
     * A rule or a permission forbids it.
     */
    RINGPOST_NOT_ALLOWED = 19,
    /**
     * A limit of the server, or of one user, is reached.
     */
    RINGPOST_QUOTA = 20,
    /**
     * The other side refused.
     */
    RINGPOST_REFUSED = 21,
    /**
     * The service failed. The text is its own.
     */
    RINGPOST_SERVICE_FAILED = 22,
    /**
     * The service's response was too large.
     */
    RINGPOST_RESPONSE_TOO_LARGE = 23,
    /**
     * There is no submitted call whose response could come.
     */
    RINGPOST_NOTHING_OUTSTANDING = 24,
    /**
     * No server listens at the path.
     */
    RINGPOST_NO_SERVER = 25,
    /**
     * The two sides speak different versions of the protocol.
     */
    RINGPOST_VERSION = 26,
    /**
     * The other side broke the protocol.
     */
    RINGPOST_VIOLATION = 27,
    /**
     * A subscription ended, because the publisher would not wait any longer.
     */
    RINGPOST_EVICTED = 29,
    /**
     * A system call failed.
     */
    RINGPOST_SYSTEM = 30,
    /**
     * Something else. The text says what.
     */
    RINGPOST_OTHER = 31,
} ringpost_status;

/**
 * What to do when samples come faster than they are taken.
 */
typedef enum ringpost_policy {
    /**
     * The oldest are lost, and counted.
     */
    RINGPOST_LOSSY = 0,
    /**
     * Only the newest of each publisher is wanted.
     */
    RINGPOST_LATEST = 1,
    /**
     * The publisher waits, if it offers that.
     */
    RINGPOST_RELIABLE = 2,
} ringpost_policy;

/**
 * A registered client.
 */
typedef struct ringpost_client ringpost_client;

/**
 * Ends the connection of the handle that it came from. Any thread may use it, also while others do, and
 * after that handle was freed.
 */
typedef struct ringpost_closer ringpost_closer;

/**
 * The calling end of a link.
 */
typedef struct ringpost_link ringpost_link;

/**
 * Where links to a client come in.
 */
typedef struct ringpost_listener ringpost_listener;

/**
 * Publishes samples of one topic.
 */
typedef struct ringpost_publisher ringpost_publisher;

/**
 * The serving end of a link.
 */
typedef struct ringpost_responder ringpost_responder;

/**
 * The response that a service writes. It is there until the callback returns.
 */
typedef struct ringpost_response ringpost_response;

/**
 * A server. Several threads may use it at once.
 */
typedef struct ringpost_server ringpost_server;

/**
 * A listener that serves by itself, on a thread for each link. Several threads may use it at once.
 */
typedef struct ringpost_serving ringpost_serving;

/**
 * Receives the samples of all topics that match a pattern.
 */
typedef struct ringpost_subscriber ringpost_subscriber;

/**
 * A client's key. Two are the same if all their bytes are.
 */
typedef struct ringpost_key {
    /**
     * The key. Their order is the same on all machines.
     */
    uint8_t bytes[16];
} ringpost_key;

/**
 * A message that was received.
 */
typedef struct ringpost_message {
    /**
     * Who sent it: the address for a response.
     */
    struct ringpost_key sender;
    /**
     * The name that the sender had.
     */
    char sender_name[RINGPOST_NAME_SIZE];
    /**
     * What was sent. It is valid until the next use of the client.
     */
    const void *payload;
    /**
     * Its length in bytes.
     */
    size_t len;
} ringpost_message;

/**
 * A client, as the server knows it: it cannot pretend to be another.
 */
typedef struct ringpost_peer {
    /**
     * Its key.
     */
    struct ringpost_key key;
    /**
     * Its name.
     */
    char name[RINGPOST_NAME_SIZE];
    /**
     * Its process, at the time of its registration.
     */
    uint32_t pid;
    /**
     * Its user.
     */
    uint32_t uid;
    /**
     * Its group.
     */
    uint32_t gid;
} ringpost_peer;

/**
 * A client in a list.
 */
typedef struct ringpost_client_info {
    /**
     * Who it is.
     */
    struct ringpost_peer peer;
    /**
     * Whether it listens for links.
     */
    bool serves;
    /**
     * Links that it has open.
     */
    uint32_t links;
    /**
     * Calls that it has made.
     */
    uint64_t calls;
    /**
     * Messages that it has sent.
     */
    uint64_t sent;
    /**
     * Messages that it has received.
     */
    uint64_t received;
} ringpost_client_info;

/**
 * Called for each client of a list. Return 0 to go on, another number to end the list.
 */
typedef int (*ringpost_visit_client)(void *context, const struct ringpost_client_info *info);

/**
 * A request that a service answers. It is there until the callback returns.
 */
typedef struct ringpost_request {
    /**
     * What the caller sent: a copy that nobody changes.
     */
    const void *payload;
    /**
     * Its length in bytes.
     */
    size_t len;
    /**
     * Whether the caller waits for a response. What is written is thrown away if not.
     */
    bool wants_response;
    /**
     * Who calls.
     */
    struct ringpost_peer peer;
} ringpost_request;

/**
 * A service. Returns 0 to answer with what it wrote, or another number to say that it failed.
 *
 * It is called on a thread of the library. A server or a serving calls it on several threads at once, for
 * several clients, with the same `context`. It must return: no exception and no longjmp may leave it.
 */
typedef int (*ringpost_service)(void *context,
                                const struct ringpost_request *request,
                                struct ringpost_response *response);

/**
 * Called once, when no thread uses the context of a service any more. May be NULL.
 */
typedef void (*ringpost_release)(void *context);

/**
 * What a server has done.
 */
typedef struct ringpost_server_summary {
    /**
     * Clients that were registered.
     */
    uint64_t registered;
    /**
     * Calls that were served.
     */
    uint64_t calls;
    /**
     * Messages that were delivered.
     */
    uint64_t messages;
    /**
     * Services that had not returned when the server gave up waiting for them.
     */
    uint64_t abandoned;
} ringpost_server_summary;

/**
 * A piece of a sample: `len` bytes at `data`.
 */
typedef struct ringpost_part {
    /**
     * Where it is. May be NULL if `len` is 0.
     */
    const void *data;
    /**
     * Its length in bytes.
     */
    size_t len;
} ringpost_part;

/**
 * A sample that was received.
 */
typedef struct ringpost_sample {
    /**
     * What was published: a copy, valid until the next use of the subscriber.
     */
    const void *payload;
    /**
     * Its length in bytes.
     */
    size_t len;
    /**
     * Its number among those of its publisher.
     */
    uint64_t sequence;
    /**
     * How many of this publisher were lost before it.
     */
    uint64_t missed;
    /**
     * Its topic.
     */
    char topic[RINGPOST_TOPIC_SIZE];
    /**
     * Who published it.
     */
    struct ringpost_peer publisher;
} ringpost_sample;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Registers a client with the server at a path, or at the default path if that is NULL. `timeout_ns` is also
 * the limit of ringpost_client_unregister, _ping, _look_up, _list and _listen.
 *
 * Requires: `path` is NULL or a text, `name` is a text, `out` points to a pointer.
 */
enum ringpost_status ringpost_register(const char *path,
                                       const char *name,
                                       int64_t timeout_ns,
                                       struct ringpost_client **out);

/**
 * Ends the registration, waits until the server confirms it, and frees the handle, whatever it returns.
 * After RINGPOST_OK the name is free.
 *
 * Requires: `client` is a handle that no other thread uses.
 */
enum ringpost_status ringpost_client_unregister(struct ringpost_client *client);

/**
 * As ringpost_client_unregister, but tells of no failure, and waits for a second at most.
 *
 * Requires: `client` is a handle that no other thread uses.
 */
enum ringpost_status ringpost_client_free(struct ringpost_client *client);

/**
 * The client's key: its address for others. Does not block.
 *
 * Requires: `client` is a handle, `key` points to a key.
 */
enum ringpost_status ringpost_client_key(struct ringpost_client *client, struct ringpost_key *key);

/**
 * The longest payload of a call, and of a message, in bytes. Does not block.
 *
 * Requires: `client` is a handle, `max_call` and `max_message` point to numbers.
 */
enum ringpost_status ringpost_client_limits(struct ringpost_client *client,
                                            size_t *max_call,
                                            size_t *max_message);

/**
 * Calls the server's service, and waits for the response. `*reply` is valid until the next use of the
 * client.
 *
 * Requires: `client` is a handle, `request` has `len` bytes, `reply` and `reply_len` point to a pointer and
 * a number.
 */
enum ringpost_status ringpost_client_call(struct ringpost_client *client,
                                          const void *request,
                                          size_t len,
                                          int64_t timeout_ns,
                                          const void **reply,
                                          size_t *reply_len);

/**
 * Sends a request without waiting for its response: ringpost_client_response gets that. Does not block.
 *
 * RINGPOST_FULL: collect responses first.
 *
 * Requires: `client` is a handle, `request` has `len` bytes.
 */
enum ringpost_status ringpost_client_submit(struct ringpost_client *client, const void *request, size_t len);

/**
 * Waits for the response to the oldest submitted request. After RINGPOST_TIMED_OUT it is still outstanding.
 * `*reply` is valid until the next use of the client.
 *
 * Requires: `client` is a handle, `reply` and `reply_len` point to a pointer and a number.
 */
enum ringpost_status ringpost_client_response(struct ringpost_client *client,
                                              int64_t timeout_ns,
                                              const void **reply,
                                              size_t *reply_len);

/**
 * How many submitted requests have a response to collect. Does not block.
 *
 * Requires: `client` is a handle, `outstanding` points to a number.
 */
enum ringpost_status ringpost_client_outstanding(struct ringpost_client *client, size_t *outstanding);

/**
 * Asks the server for nothing, and waits for its answer, for the time given to ringpost_register at most.
 *
 * Requires: `client` is a handle.
 */
enum ringpost_status ringpost_client_ping(struct ringpost_client *client);

/**
 * Sends a message to a client, by its name or the text of its key. Waits while the other's inbox is full.
 * RINGPOST_OK: it lies in the inbox, and may not have been read.
 *
 * Requires: `client` is a handle, `to` is a text, `message` has `len` bytes.
 */
enum ringpost_status ringpost_client_send(struct ringpost_client *client,
                                          const char *to,
                                          const void *message,
                                          size_t len,
                                          int64_t timeout_ns);

/**
 * As ringpost_client_send, by the key.
 *
 * Requires: `client` is a handle, `to` points to a key, `message` has `len` bytes.
 */
enum ringpost_status ringpost_client_send_to_key(struct ringpost_client *client,
                                                 const struct ringpost_key *to,
                                                 const void *message,
                                                 size_t len,
                                                 int64_t timeout_ns);

/**
 * Waits for a message. RINGPOST_TIMED_OUT: there is none.
 *
 * Requires: `client` is a handle, `message` points to a message.
 */
enum ringpost_status ringpost_client_recv(struct ringpost_client *client,
                                          int64_t timeout_ns,
                                          struct ringpost_message *message);

/**
 * The key of the client with a name. RINGPOST_NOT_FOUND: there is none. Waits for the server, for the time
 * given to ringpost_register at most.
 *
 * Requires: `client` is a handle, `name` is a text, `key` points to a key.
 */
enum ringpost_status ringpost_client_look_up(struct ringpost_client *client,
                                             const char *name,
                                             struct ringpost_key *key);

/**
 * As ringpost_client_look_up, but waits until there is such a client.
 *
 * Requires: As ringpost_client_look_up.
 */
enum ringpost_status ringpost_client_wait_for(struct ringpost_client *client,
                                              const char *name,
                                              int64_t timeout_ns,
                                              struct ringpost_key *key);

/**
 * Calls `visit` for each client that is registered, after the whole list has come. Waits for the server, for
 * the time given to ringpost_register at most.
 *
 * Requires: `client` is a handle. `visit` may be called with `context`, and must return.
 */
enum ringpost_status ringpost_client_list(struct ringpost_client *client,
                                          ringpost_visit_client visit,
                                          void *context);

/**
 * A closer, which ends the client's registration from any thread.
 *
 * Requires: `client` is a handle, `out` points to a pointer.
 */
enum ringpost_status ringpost_client_closer(struct ringpost_client *client, struct ringpost_closer **out);

/**
 * The descriptor by which an event loop waits for responses and messages. Put it into the loop, for reading,
 * and before each wait: look, with a time-out of 0, until nothing is there; arm; look again if that says
 * false. Never read from it. It is closed when the client is freed. Blocks until the server has answered.
 *
 * Requires: `client` is a handle, `fd` points to a number.
 */
enum ringpost_status ringpost_client_readiness(struct ringpost_client *client, int *fd);

/**
 * Says that the program is about to wait by the descriptor. `*armed` is false if something has come: look
 * again. Does not block.
 *
 * Requires: `client` is a handle, `armed` points to a bool.
 */
enum ringpost_status ringpost_client_arm(struct ringpost_client *client, bool *armed);

/**
 * Ends the connection: every wait on it ends with RINGPOST_DISCONNECTED. Does not block. Closing twice does
 * no harm.
 *
 * Requires: `closer` is a handle.
 */
enum ringpost_status ringpost_closer_close(const struct ringpost_closer *closer);

/**
 * Frees a closer. It closes nothing.
 *
 * Requires: `closer` is a handle that no other thread uses.
 */
enum ringpost_status ringpost_closer_free(struct ringpost_closer *closer);

/**
 * The text of this thread's last failure, or an empty one. It belongs to the library, and is valid until a
 * function fails in this thread, or the thread ends.
 */
const char *ringpost_error_text(void);

/**
 * Whether the other side may have done what this thread's last failed call, response or send asked for, or
 * may yet do it. If not, asking again is safe.
 */
bool ringpost_error_may_have_executed(void);

/**
 * The version of this interface: the number in the soname. It changes when something that was there
 * changes, not when something is added.
 */
uint32_t ringpost_abi_version(void);

/**
 * Opens a link to a client, by its name or the text of its key, and waits until that has accepted or refused.
 * `arms`: the link will be waited for in an event loop.
 *
 * Requires: `client` is a handle, `to` is a text, `out` points to a pointer.
 */
enum ringpost_status ringpost_connect(struct ringpost_client *client,
                                      const char *to,
                                      int64_t timeout_ns,
                                      bool arms,
                                      struct ringpost_link **out);

/**
 * Calls the other client's service, and waits for the response. `*reply` is valid until the next use of the link.
 *
 * Requires: `link` is a handle, `request` has `len` bytes, `reply` and `reply_len` point to a pointer and a number.
 */
enum ringpost_status ringpost_link_call(struct ringpost_link *link,
                                        const void *request,
                                        size_t len,
                                        int64_t timeout_ns,
                                        const void **reply,
                                        size_t *reply_len);

/**
 * Sends a request without waiting for its response: ringpost_link_response gets that. Does not block.
 *
 * RINGPOST_FULL: collect responses first.
 *
 * Requires: `link` is a handle, `request` has `len` bytes.
 */
enum ringpost_status ringpost_link_submit(struct ringpost_link *link, const void *request, size_t len);

/**
 * Waits for the response to the oldest submitted request. After RINGPOST_TIMED_OUT it is still outstanding.
 * `*reply` is valid until the next use of the link.
 *
 * Requires: `link` is a handle, `reply` and `reply_len` point to a pointer and a number.
 */
enum ringpost_status ringpost_link_response(struct ringpost_link *link,
                                            int64_t timeout_ns,
                                            const void **reply,
                                            size_t *reply_len);

/**
 * Sends a request that gets no response. It arrives in order with the calls. Does not block.
 *
 * RINGPOST_FULL: the other side has to serve some first.
 *
 * Requires: `link` is a handle, `request` has `len` bytes.
 */
enum ringpost_status ringpost_link_post(struct ringpost_link *link, const void *request, size_t len);

/**
 * Who serves. Does not block.
 *
 * Requires: `link` is a handle, `peer` points to a peer.
 */
enum ringpost_status ringpost_link_peer(struct ringpost_link *link, struct ringpost_peer *peer);

/**
 * A closer, which ends the link from any thread.
 *
 * Requires: `link` is a handle, `out` points to a pointer.
 */
enum ringpost_status ringpost_link_closer(struct ringpost_link *link, struct ringpost_closer **out);

/**
 * As ringpost_client_readiness, for responses. The link must have been opened with `arms`.
 *
 * Requires: `link` is a handle, `fd` points to a number.
 */
enum ringpost_status ringpost_link_readiness(struct ringpost_link *link, int *fd);

/**
 * As ringpost_client_arm.
 *
 * Requires: `link` is a handle, `armed` points to a bool.
 */
enum ringpost_status ringpost_link_arm(struct ringpost_link *link, bool *armed);

/**
 * Ends the link, and frees the handle. Does not block.
 *
 * Requires: `link` is a handle that no other thread uses.
 */
enum ringpost_status ringpost_link_free(struct ringpost_link *link);

/**
 * Lets other clients open links to this one. Waits for the server, for the time given to ringpost_register at most.
 *
 * Requires: `client` is a handle, `out` points to a pointer.
 */
enum ringpost_status ringpost_listen(struct ringpost_client *client,
                                     struct ringpost_listener **out);

/**
 * Waits for a client that connects, and accepts it. `arms`: the responder will be waited for in an event loop.
 *
 * Requires: `listener` is a handle, `out` points to a pointer.
 */
enum ringpost_status ringpost_listener_accept(struct ringpost_listener *listener,
                                              int64_t timeout_ns,
                                              bool arms,
                                              struct ringpost_responder **out);

/**
 * Serves by itself from now on, on a thread for each link, and takes the listener: its handle is freed, whatever this
 * returns. `release` is called with the context when no thread uses it any more, also if this fails, but not
 * if `service` is NULL.
 *
 * Requires: `listener` is a handle that no other thread uses, `out` points to a pointer. `service` may be called
 * with `context` by any number of threads until `release` is called.
 */
enum ringpost_status ringpost_listener_serve(struct ringpost_listener *listener,
                                             ringpost_service service,
                                             void *context,
                                             ringpost_release release,
                                             struct ringpost_serving **out);

/**
 * As ringpost_client_readiness, for clients that connect.
 *
 * Requires: `listener` is a handle, `fd` points to a number.
 */
enum ringpost_status ringpost_listener_readiness(struct ringpost_listener *listener, int *fd);

/**
 * As ringpost_client_arm.
 *
 * Requires: `listener` is a handle, `armed` points to a bool.
 */
enum ringpost_status ringpost_listener_arm(struct ringpost_listener *listener, bool *armed);

/**
 * Lets no more links in, and frees the handle. Links that were accepted go on.
 *
 * Requires: `listener` is a handle that no other thread uses.
 */
enum ringpost_status ringpost_listener_free(struct ringpost_listener *listener);

/**
 * Ends all links of a serving, waits for the services that run, and frees the handle. Blocks for as long as they take.
 *
 * Requires: `serving` is a handle that no other thread uses.
 */
enum ringpost_status ringpost_serving_stop(struct ringpost_serving *serving);

/**
 * Serves the requests that are there, on this thread, and returns. `*ended` is true if the link has ended and no more
 * will come.
 *
 * Requires: `responder` is a handle, `service` may be called with `context`, `ended` points to a bool.
 */
enum ringpost_status ringpost_responder_serve_ready(struct ringpost_responder *responder,
                                                    ringpost_service service,
                                                    void *context,
                                                    bool *ended);

/**
 * Serves requests on this thread until the link has ended.
 *
 * Requires: `responder` is a handle, `service` may be called with `context`.
 */
enum ringpost_status ringpost_responder_serve(struct ringpost_responder *responder,
                                              ringpost_service service,
                                              void *context);

/**
 * Who calls. Does not block.
 *
 * Requires: `responder` is a handle, `peer` points to a peer.
 */
enum ringpost_status ringpost_responder_peer(struct ringpost_responder *responder,
                                             struct ringpost_peer *peer);

/**
 * A closer, which ends the link from any thread.
 *
 * Requires: `responder` is a handle, `out` points to a pointer.
 */
enum ringpost_status ringpost_responder_closer(struct ringpost_responder *responder,
                                               struct ringpost_closer **out);

/**
 * As ringpost_client_readiness, for requests. The link must have been accepted with `arms`.
 *
 * Requires: `responder` is a handle, `fd` points to a number.
 */
enum ringpost_status ringpost_responder_readiness(struct ringpost_responder *responder, int *fd);

/**
 * As ringpost_client_arm.
 *
 * Requires: `responder` is a handle, `armed` points to a bool.
 */
enum ringpost_status ringpost_responder_arm(struct ringpost_responder *responder, bool *armed);

/**
 * Ends the link, and frees the handle.
 *
 * Requires: `responder` is a handle that no other thread uses.
 */
enum ringpost_status ringpost_responder_free(struct ringpost_responder *responder);

/**
 * Starts a server at the path of a socket, or at the default path if that is NULL. `service` answers the
 * calls; if it is NULL the server echoes them. `release` is called with the context when no thread uses it
 * any more, also if this fails, but not if `service` is NULL. Does not wait for clients.
 *
 * Requires: `path` is NULL or a text, `out` points to a pointer. `service` may be called with `context` by
 * any number of threads until `release` is called.
 */
enum ringpost_status ringpost_server_start(const char *path,
                                           ringpost_service service,
                                           void *context,
                                           ringpost_release release,
                                           struct ringpost_server **out);

/**
 * Begins the shutdown: no client comes in any more, calls that are being served end. Does not block. Not for
 * signal handlers.
 *
 * Requires: `server` is a handle.
 */
enum ringpost_status ringpost_server_shutdown(const struct ringpost_server *server);

/**
 * Shuts the server down, waits until it has ended, and frees the handle. It waits for calls that are being
 * served, for at most 7 seconds. `summary` may be NULL.
 *
 * Requires: `server` is a handle that no other thread uses, `summary` is NULL or points to a summary.
 */
enum ringpost_status ringpost_server_stop(struct ringpost_server *server,
                                          struct ringpost_server_summary *summary);

/**
 * The number of clients that are registered.
 *
 * Requires: `server` is a handle, `clients` points to a number.
 */
enum ringpost_status ringpost_server_clients(const struct ringpost_server *server, uint32_t *clients);

/**
 * Appends to the response. For use in the service that was called with it.
 *
 * RINGPOST_TOO_LARGE: the response would not fit. The caller is told so, whatever the service returns.
 *
 * Requires: `response` is what the service was called with, `data` has `len` bytes.
 */
enum ringpost_status ringpost_response_write(struct ringpost_response *response,
                                             const void *data,
                                             size_t len);

/**
 * How many bytes can still be written to the response.
 *
 * Requires: As ringpost_response_write; `remaining` points to a size_t.
 */
enum ringpost_status ringpost_response_remaining(struct ringpost_response *response, size_t *remaining);

/**
 * Makes the call fail with this text for the caller, whatever the service returns.
 *
 * Requires: As ringpost_response_write; `why` is a text.
 */
enum ringpost_status ringpost_response_fail(struct ringpost_response *response, const char *why);

/**
 * Writes a key as text: 32 digits and letters and a NUL, which every function that takes a name takes as
 * well.
 *
 * Requires: `key` points to a key, `text` to 33 bytes of the caller's.
 */
enum ringpost_status ringpost_key_text(const struct ringpost_key *key, char (*text)[RINGPOST_KEY_TEXT_SIZE]);

/**
 * Publishes a topic. `ring_size` is the size of its ring in bytes, or 0 for the usual one. `reliable_ns` is how
 * long samples may wait for subscribers that want each one, in nanoseconds; with a negative number they never
 * wait. `arms`: the publisher will be waited for in an event loop. Waits for the server, for the time given to
 * ringpost_register at most.
 *
 * Requires: `client` is a handle, `topic` is a text, `out` points to a pointer.
 */
enum ringpost_status ringpost_publish(struct ringpost_client *client,
                                      const char *topic,
                                      size_t ring_size,
                                      int64_t reliable_ns,
                                      bool arms,
                                      struct ringpost_publisher **out);

/**
 * Publishes a sample. Waits only for subscribers that want each one, if the publisher offers that.
 *
 * Requires: `publisher` is a handle, `sample` has `len` bytes.
 */
enum ringpost_status ringpost_publisher_send(struct ringpost_publisher *publisher,
                                             const void *sample,
                                             size_t len,
                                             int64_t timeout_ns);

/**
 * Publishes a sample that is made of pieces, each copied to its place in the ring once. Waits without a limit for
 * subscribers that want each sample, if the publisher offers that.
 *
 * Requires: `publisher` is a handle, `parts` has `count` pieces.
 */
enum ringpost_status ringpost_publisher_send_parts(struct ringpost_publisher *publisher,
                                                   const struct ringpost_part *parts,
                                                   size_t count);

/**
 * The longest sample in bytes, and how many subscribers there are. Does not block.
 *
 * Requires: `publisher` is a handle, `max_sample` and `subscribers` point to numbers.
 */
enum ringpost_status ringpost_publisher_limits(struct ringpost_publisher *publisher,
                                               size_t *max_sample,
                                               size_t *subscribers);

/**
 * A closer, which ends the publisher from any thread.
 *
 * Requires: `publisher` is a handle, `out` points to a pointer.
 */
enum ringpost_status ringpost_publisher_closer(struct ringpost_publisher *publisher,
                                               struct ringpost_closer **out);

/**
 * As ringpost_client_readiness, for room. The publisher must have been made with `arms`.
 *
 * Requires: `publisher` is a handle, `fd` points to a number.
 */
enum ringpost_status ringpost_publisher_readiness(struct ringpost_publisher *publisher, int *fd);

/**
 * As ringpost_client_arm, after a send that found no room.
 *
 * Requires: `publisher` is a handle, `armed` points to a bool.
 */
enum ringpost_status ringpost_publisher_arm(struct ringpost_publisher *publisher, bool *armed);

/**
 * Publishes no more, and frees the handle. Subscribers still receive what was published.
 *
 * Requires: `publisher` is a handle that no other thread uses.
 */
enum ringpost_status ringpost_publisher_free(struct ringpost_publisher *publisher);

/**
 * Subscribes to all topics that match a pattern, now and later. `policy` is one of ringpost_policy. `history`:
 * begin with so many of the last samples of each publisher. `arms`: the subscriber will be waited for in an
 * event loop. Waits for the server.
 *
 * Requires: `client` is a handle, `pattern` is a text, `out` points to a pointer.
 */
enum ringpost_status ringpost_subscribe(struct ringpost_client *client,
                                        const char *pattern,
                                        int policy,
                                        uint64_t history,
                                        bool arms,
                                        int64_t timeout_ns,
                                        struct ringpost_subscriber **out);

/**
 * Waits for a sample. RINGPOST_TIMED_OUT: there is none.
 *
 * Requires: `subscriber` is a handle, `sample` points to a sample.
 */
enum ringpost_status ringpost_subscriber_recv(struct ringpost_subscriber *subscriber,
                                              int64_t timeout_ns,
                                              struct ringpost_sample *sample);

/**
 * A closer, which ends the subscription from any thread.
 *
 * Requires: `subscriber` is a handle, `out` points to a pointer.
 */
enum ringpost_status ringpost_subscriber_closer(struct ringpost_subscriber *subscriber,
                                                struct ringpost_closer **out);

/**
 * As ringpost_client_readiness, for samples. The subscriber must have been made with `arms`.
 *
 * Requires: `subscriber` is a handle, `fd` points to a number.
 */
enum ringpost_status ringpost_subscriber_readiness(struct ringpost_subscriber *subscriber, int *fd);

/**
 * As ringpost_client_arm.
 *
 * Requires: `subscriber` is a handle, `armed` points to a bool.
 */
enum ringpost_status ringpost_subscriber_arm(struct ringpost_subscriber *subscriber, bool *armed);

/**
 * Ends the subscription, and frees the handle.
 *
 * Requires: `subscriber` is a handle that no other thread uses.
 */
enum ringpost_status ringpost_subscriber_free(struct ringpost_subscriber *subscriber);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* RINGPOST_H */

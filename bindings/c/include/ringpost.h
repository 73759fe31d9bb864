/*
 * Ringpost from C. Made by cbindgen from bindings/c/src: do not edit.
 *
 * Handles. Each handle that a function gives you through `out` is yours: end it by its _free, or by the
 * function that says that it takes the handle. Any thread may use a handle, one at a time: a second one gets
 * RINGPOST_IN_USE. There are these exceptions: one thread may receive from a client while another does
 * everything else with it; closers, and ringpost_server_shutdown, may be used by any thread at any time.
 * A handle that is in use is not freed: that gives RINGPOST_IN_USE, too. But do not free a handle that another
 * thread may still begin to use.
 *
 * Errors. Functions return RINGPOST_OK or a code; ringpost_error_text() says more. NULL, a handle of another
 * kind, and a handle that was freed (one of the last 1024) are told by a code of their own. Any other
 * pointer that is not a handle is undefined behaviour, as everywhere in C. After a failure, what you passed
 * for results is untouched. Any function can return RINGPOST_PANICKED, and so on: treat a code that you do not
 * know as a failure.
 *
 * Time. `timeout_ns` is the longest wait in nanoseconds: 0 does not wait, a negative number waits without
 * limit. A wait also ends with the connection. Signals do not end it: use a closer.
 *
 * Memory. What you pass in is only looked at during the call. Pointers to payloads that a function gives you
 * belong to the handle, and are valid as long as is said there. Text is UTF-8, and ends with a NUL. Data may
 * be NULL if its length is 0.
 *
 * Forks. In a forked child the handles of its parent give RINGPOST_FORKED. It may free them, and register
 * anew.
 */

#ifndef RINGPOST_H
#define RINGPOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * Of the text of a failure with its NUL, in bytes: what is longer is cut.
 */
#define RINGPOST_ERROR_TEXT_SIZE 1024

/**
 * The version of this interface that a program is compiled for: the number in the soname, libringpost.so.0.
 *
 * It changes when something that was there changes or goes. It stays when something is added: a function, a
 * status, a member at the end of ringpost_server_options. No other structure grows.
 */
#define RINGPOST_ABI_VERSION 0

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
#define RINGPOST_KEY_TEXT_SIZE 27

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
     * Another call uses this handle now: on another thread, or further up on this one. Or a grant or a view
     * of it is open.
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
     * The other client is gone, or has given up its inbox, or ended the link before it was accepted.
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
     * No submitted call has a response to collect, or no grant or view is open.
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
     * The publisher has overwritten the sample in place: what was read of it may be anything.
     */
    RINGPOST_OVERRUN = 28,
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
    /**
     * The receiver is on another computer, and nobody knows whether the message was delivered.
     */
    RINGPOST_UNCONFIRMED = 32,
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
 * A registered client. One thread may receive while another does everything else: ringpost_client_recv and
 * the ringpost_client_inbox functions exclude each other, and all others exclude each other.
 */
typedef struct ringpost_client ringpost_client;

/**
 * Ends the connection of the handle that it came from. Any thread may use it, also while others do, and
 * after that handle was freed.
 */
typedef struct ringpost_closer ringpost_closer;

/**
 * A client that asks for a link, and waits to be accepted or refused.
 */
typedef struct ringpost_incoming ringpost_incoming;

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
 * A listener that serves by itself, on a thread for each link.
 */
typedef struct ringpost_serving ringpost_serving;

/**
 * Receives the samples of all topics that match a pattern.
 */
typedef struct ringpost_subscriber ringpost_subscriber;

/**
 * How a server differs from the usual one. Set `size`, and only what differs: 0 and NULL mean the usual, so
 *
 * ringpost_server_options options = {.size = sizeof options, .max_clients = 100};
 */
typedef struct ringpost_server_options {
    /**
     * sizeof(ringpost_server_options): by it a library tells an older program, which knows less of them.
     */
    size_t size;
    /**
     * The most clients at once: 1 to 65536. Usually 1024.
     */
    uint32_t max_clients;
    /**
     * Of each ring of a client, in bytes: a power of two, 4 KiB to 1 GiB. Usually 256 KiB.
     */
    size_t ring_size;
    /**
     * The largest call or message, in bytes, with its header: 256 to half a ring less 8. Usually that.
     */
    size_t max_block;
    /**
     * How long ringpost_server_stop waits for services that run, in nanoseconds. A negative number: not at
     * all. Usually five seconds.
     */
    int64_t grace_ns;
    /**
     * Users that may use the server besides its own and root.
     */
    const uint32_t *allow_users;
    /**
     * How many they are.
     */
    size_t allow_users_len;
    /**
     * Groups whose members may use it.
     */
    const uint32_t *allow_groups;
    /**
     * How many they are.
     */
    size_t allow_groups_len;
} ringpost_server_options;

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
 * several clients, with the same `context`. It must return: an exception that leaves it ends the process,
 * and a longjmp out of it is undefined behaviour.
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
     * What was sent. It belongs to the client, and is valid until it receives again or is freed.
     */
    const void *payload;
    /**
     * Its length in bytes.
     */
    size_t len;
} ringpost_message;

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
 * A sample that was received.
 */
typedef struct ringpost_sample {
    /**
     * What was published. After ringpost_subscriber_recv it is a copy that belongs to the subscriber, and
     * is valid until the next use of it. After ringpost_subscriber_view see there.
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
 * The text of this thread's last failure, or an empty one. Does not block.
 *
 * It belongs to the library, has at most RINGPOST_ERROR_TEXT_SIZE bytes with its NUL, and stays the same
 * until a function fails in this thread, or the thread ends. A success leaves it as it is.
 */
const char *ringpost_error_text(void);

/**
 * Whether the other side may have done what this thread's last failed call, response or send asked for, or
 * may yet do it. If not, asking again is safe. Does not block.
 */
bool ringpost_error_may_have_executed(void);

/**
 * The version of the interface that the library has which is loaded: compare it with RINGPOST_ABI_VERSION if
 * the library was loaded by other means than its soname. Does not block.
 */
uint32_t ringpost_abi_version(void);

/**
 * Starts a server at the path of a socket, or at the default path if that is NULL. It works on threads of
 * its own, which take no signals. Does not wait for clients.
 *
 * `options` may be NULL. `service` answers the calls; if it is NULL the server echoes them. `release` is
 * called with the context when no thread uses it any more, also if this fails, but not if `service` is NULL.
 * `*out` is yours: end it by ringpost_server_stop.
 *
 * Requires: `path` is NULL or a text, `options` is NULL or points to options, `out` points to a pointer.
 * `service` may be called with `context` by any number of threads until `release` is called.
 */
enum ringpost_status ringpost_server_start(const char *path,
                                           const struct ringpost_server_options *options,
                                           ringpost_service service,
                                           void *context,
                                           ringpost_release release,
                                           struct ringpost_server **out);

/**
 * Begins the shutdown: no client comes in any more, calls that are being served end. Does not block. Any
 * thread may call it at any time, a service and a signal handler too.
 *
 * Requires: `server` is a handle.
 */
enum ringpost_status ringpost_server_shutdown(const struct ringpost_server *server);

/**
 * Shuts the server down, waits until it has ended, and frees the handle. It gives services that run the time
 * that the options say, `grace_ns`, and then a second.
 *
 * RINGPOST_TIMED_OUT: it has not ended yet, and goes on ending. The handle is still yours: stop it again, to
 * wait further. In a service of this server, a time-out of 0 or more is over before that service has
 * returned; a negative one does not wait for it.
 *
 * Requires: `server` is a handle that no other thread uses, `summary` is NULL or points to a summary.
 */
enum ringpost_status ringpost_server_stop(struct ringpost_server *server,
                                          int64_t timeout_ns,
                                          struct ringpost_server_summary *summary);

/**
 * The number of clients that are registered. Does not block.
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
 * Registers a client with the server at a path, or at the default path if that is NULL. Waits for the
 * server.
 *
 * `*out` is yours: end it by ringpost_client_unregister or ringpost_client_free. The first client of a
 * process also starts a thread of the library, which takes no signals.
 *
 * Requires: `path` is NULL or a text, `name` is a text, `out` points to a pointer.
 */
enum ringpost_status ringpost_register(const char *path,
                                       const char *name,
                                       int64_t timeout_ns,
                                       struct ringpost_client **out);

/**
 * Ends the registration, and waits until the server confirms it. After RINGPOST_OK the name is free. The
 * handle is freed, whatever this returns, except RINGPOST_IN_USE: then nothing was done.
 *
 * Requires: `client` is a handle that no other thread uses.
 */
enum ringpost_status ringpost_client_unregister(struct ringpost_client *client, int64_t timeout_ns);

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
 * Calls the server's service, and waits for the response. After RINGPOST_TIMED_OUT the call may still be
 * executed, and its response is thrown away.
 *
 * `*reply` belongs to the client, and is valid until it does anything but receive.
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
 *
 * `*reply` belongs to the client, and is valid until it does anything but receive.
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
 * Sends a message to a client, by its name or the text of its key. Waits while the other's inbox is full;
 * with a time-out of 0 only for the server's answer, which is immediate.
 *
 * RINGPOST_OK: it lies in the inbox, and may not have been read.
 * RINGPOST_FULL: a time-out of 0, and there is no room.
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
 * Sends a message as ringpost_client_send_to_key does, but does not block: ringpost_client_sent takes the
 * server's answer. The answers come in order with the responses to submitted requests: keep in mind which is
 * next. While the other's inbox is full the server waits for room, for `patience_ns` at most, and answers
 * nothing else that the client asks.
 *
 * RINGPOST_FULL: collect responses first.
 *
 * Requires: `client` is a handle, `to` points to a key, `message` has `len` bytes.
 */
enum ringpost_status ringpost_client_submit_send(struct ringpost_client *client,
                                                 const struct ringpost_key *to,
                                                 const void *message,
                                                 size_t len,
                                                 int64_t patience_ns);

/**
 * The answer to a message that was submitted with ringpost_client_submit_send, if that is what was submitted
 * first of all that has no answer yet. Does not block. RINGPOST_OK: it lies in the inbox.
 *
 * RINGPOST_TIMED_OUT: there is no answer yet.
 * RINGPOST_FULL: there was no room for as long as `patience_ns`. It was not delivered.
 *
 * Requires: `client` is a handle.
 */
enum ringpost_status ringpost_client_sent(struct ringpost_client *client);

/**
 * Waits for a message. RINGPOST_TIMED_OUT: there is none. Another thread may use the client for anything
 * else meanwhile.
 *
 * Requires: `client` is a handle, `message` points to a message.
 */
enum ringpost_status ringpost_client_recv(struct ringpost_client *client,
                                          int64_t timeout_ns,
                                          struct ringpost_message *message);

/**
 * A closer, which ends the client's registration from any thread. Does not block. `*out` is yours: end it by
 * ringpost_closer_free.
 *
 * Requires: `client` is a handle, `out` points to a pointer.
 */
enum ringpost_status ringpost_client_closer(struct ringpost_client *client, struct ringpost_closer **out);

/**
 * The descriptor by which an event loop waits for responses. Waits for the server the first time.
 *
 * Put it into the loop, for reading, and before each wait: look, with a time-out of 0, until nothing is
 * there; arm; look again if that says false. Never read from it. It belongs to the client: take it out of
 * the loop before the client is freed, which closes it.
 *
 * Requires: `client` is a handle, `fd` points to a number.
 */
enum ringpost_status ringpost_client_readiness(struct ringpost_client *client, int64_t timeout_ns, int *fd);

/**
 * Says that the program is about to wait by ringpost_client_readiness. `*armed` is false if something has
 * come: look again. Does not block.
 *
 * Requires: `client` is a handle, `armed` points to a bool.
 */
enum ringpost_status ringpost_client_arm(struct ringpost_client *client, bool *armed);

/**
 * As ringpost_client_readiness, for messages: another descriptor. Waits for the server the first time, for
 * the time given to ringpost_register at most.
 *
 * Requires: `client` is a handle, `fd` points to a number.
 */
enum ringpost_status ringpost_client_inbox_readiness(struct ringpost_client *client, int *fd);

/**
 * As ringpost_client_arm, for ringpost_client_inbox_readiness.
 *
 * Requires: `client` is a handle, `armed` points to a bool.
 */
enum ringpost_status ringpost_client_inbox_arm(struct ringpost_client *client, bool *armed);

/**
 * Asks the server for nothing, and waits for its answer.
 *
 * Requires: `client` is a handle.
 */
enum ringpost_status ringpost_client_ping(struct ringpost_client *client, int64_t timeout_ns);

/**
 * The key of the client with a name. RINGPOST_NOT_FOUND: there is none. Waits for the server.
 *
 * Requires: `client` is a handle, `name` is a text, `key` points to a key.
 */
enum ringpost_status ringpost_client_look_up(struct ringpost_client *client,
                                             const char *name,
                                             int64_t timeout_ns,
                                             struct ringpost_key *key);

/**
 * As ringpost_client_look_up, but waits until there is such a client.
 *
 * Requires: as ringpost_client_look_up.
 */
enum ringpost_status ringpost_client_wait_for(struct ringpost_client *client,
                                              const char *name,
                                              int64_t timeout_ns,
                                              struct ringpost_key *key);

/**
 * Waits for the server's list of all clients, and then calls `visit` for each of them on this thread.
 * `visit` may use the client; what its `info` points to is valid until it returns.
 *
 * Requires: `client` is a handle. `visit` may be called with `context`, and must return.
 */
enum ringpost_status ringpost_client_list(struct ringpost_client *client,
                                          int64_t timeout_ns,
                                          ringpost_visit_client visit,
                                          void *context);

/**
 * Writes a key as text: 26 digits and letters and a NUL, which every function that takes a name takes as
 * well. Does not block.
 *
 * Requires: `key` points to a key, `text` to an array of RINGPOST_KEY_TEXT_SIZE bytes.
 */
enum ringpost_status ringpost_key_text(const struct ringpost_key *key, char (*text)[RINGPOST_KEY_TEXT_SIZE]);

/**
 * Ends the connection: every wait on it ends with RINGPOST_DISCONNECTED. Closing twice does no harm. Does
 * not block. Any thread may call it at any time, and a signal handler may.
 *
 * Requires: `closer` is a handle.
 */
enum ringpost_status ringpost_closer_close(const struct ringpost_closer *closer);

/**
 * Frees a closer. It closes nothing. Does not block.
 *
 * Requires: `closer` is a handle that no other thread uses.
 */
enum ringpost_status ringpost_closer_free(struct ringpost_closer *closer);

/**
 * Opens a link to a client, by its name or the text of its key, and waits until that has accepted or
 * refused. `arms`: the link will be waited for in an event loop. `*out` is yours: end it by
 * ringpost_link_free. The link ends with the client.
 *
 * Requires: `client` is a handle, `to` is a text, `out` points to a pointer.
 */
enum ringpost_status ringpost_connect(struct ringpost_client *client,
                                      const char *to,
                                      bool arms,
                                      int64_t timeout_ns,
                                      struct ringpost_link **out);

/**
 * Calls the other client's service, and waits for the response. After RINGPOST_TIMED_OUT the call may still
 * be executed, and its response is thrown away. `*reply` belongs to the link, and is valid until the next
 * use of it.
 *
 * Requires: `link` is a handle, `request` has `len` bytes, `reply` and `reply_len` point to a pointer and a
 * number.
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
 * `*reply` belongs to the link, and is valid until the next use of it.
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
 * A closer, which ends the link from any thread. Does not block. `*out` is yours: end it by
 * ringpost_closer_free.
 *
 * Requires: `link` is a handle, `out` points to a pointer.
 */
enum ringpost_status ringpost_link_closer(struct ringpost_link *link, struct ringpost_closer **out);

/**
 * As ringpost_client_readiness, for responses. The link must have been opened with `arms`. Does not block.
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
 * Lets other clients open links to this one. Waits for the server. `*out` is yours: end it by
 * ringpost_listener_serve or ringpost_listener_free. The listener ends with the client.
 *
 * Requires: `client` is a handle, `out` points to a pointer.
 */
enum ringpost_status ringpost_listen(struct ringpost_client *client,
                                     int64_t timeout_ns,
                                     struct ringpost_listener **out);

/**
 * Waits for a client that connects: look at it with ringpost_incoming_peer, and accept or refuse it. Its
 * ringpost_connect waits meanwhile. `*out` is yours: end it by ringpost_incoming_accept, _refuse or _free.
 *
 * Requires: `listener` is a handle, `out` points to a pointer.
 */
enum ringpost_status ringpost_listener_accept(struct ringpost_listener *listener,
                                              int64_t timeout_ns,
                                              struct ringpost_incoming **out);

/**
 * Who connects: its name, its process and its user, as the server knows them. Does not block.
 *
 * Requires: `incoming` is a handle, `peer` points to a peer.
 */
enum ringpost_status ringpost_incoming_peer(struct ringpost_incoming *incoming, struct ringpost_peer *peer);

/**
 * Accepts the link, and takes `incoming`: it is freed, whatever this returns, unless `out` is NULL or the
 * handle is in use. `arms`: the responder will be waited for in an event loop. Does not block. `*out` is
 * yours: end it by ringpost_responder_free.
 *
 * Requires: `incoming` is a handle that no other thread uses, `out` points to a pointer.
 */
enum ringpost_status ringpost_incoming_accept(struct ringpost_incoming *incoming,
                                              bool arms,
                                              struct ringpost_responder **out);

/**
 * Refuses the link, and takes `incoming`. The other client gets RINGPOST_REFUSED and the text, at most 1,024
 * bytes of it. Does not block.
 *
 * Requires: `incoming` is a handle that no other thread uses, `why` is a text.
 */
enum ringpost_status ringpost_incoming_refuse(struct ringpost_incoming *incoming, const char *why);

/**
 * Ends the link before it began, and frees the handle. The other client gets RINGPOST_GONE. Does not block.
 *
 * Requires: `incoming` is a handle that no other thread uses.
 */
enum ringpost_status ringpost_incoming_free(struct ringpost_incoming *incoming);

/**
 * Serves by itself from now on, every client that connects, on a thread for each link; these take no
 * signals. It takes the listener: its handle is freed, whatever this returns, unless an argument is NULL or
 * the handle is in use. Does not block.
 *
 * `release` is called with the context when no thread uses it any more, also if this fails, but not if
 * `service` is NULL. `*out` is yours: end it by ringpost_serving_stop.
 *
 * Requires: `listener` is a handle that no other thread uses, `out` points to a pointer. `service` may be
 * called with `context` by any number of threads until `release` is called.
 */
enum ringpost_status ringpost_listener_serve(struct ringpost_listener *listener,
                                             ringpost_service service,
                                             void *context,
                                             ringpost_release release,
                                             struct ringpost_serving **out);

/**
 * A closer, which lets no more links in, from any thread. Links that were accepted go on. Does not block.
 * `*out` is yours: end it by ringpost_closer_free.
 *
 * Requires: `listener` is a handle, `out` points to a pointer.
 */
enum ringpost_status ringpost_listener_closer(struct ringpost_listener *listener,
                                              struct ringpost_closer **out);

/**
 * As ringpost_client_readiness, for clients that connect. Does not block.
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
 * Ends all links of a serving, waits for the services that run, and frees the handle.
 *
 * RINGPOST_TIMED_OUT: a service still runs. The handle is still yours: stop it again, to wait further. In a
 * service of this serving, a time-out of 0 or more is over before that service has returned; a negative one
 * does not wait for it.
 *
 * Requires: `serving` is a handle that no other thread uses.
 */
enum ringpost_status ringpost_serving_stop(struct ringpost_serving *serving, int64_t timeout_ns);

/**
 * Serves the requests that are there, on this thread, and returns. `*ended` is true if the link has ended
 * and no more will come.
 *
 * Requires: `responder` is a handle, `service` may be called with `context`, `ended` points to a bool.
 */
enum ringpost_status ringpost_responder_serve_ready(struct ringpost_responder *responder,
                                                    ringpost_service service,
                                                    void *context,
                                                    bool *ended);

/**
 * Serves requests on this thread until the link has ended: RINGPOST_OK. RINGPOST_TIMED_OUT: the time is
 * over, and the link goes on. A service that runs is not ended by that.
 *
 * A time-out of 0 or more is for links that were accepted with `arms`, as it waits by the descriptor.
 * Without a limit, a closer ends it.
 *
 * Requires: `responder` is a handle, `service` may be called with `context`.
 */
enum ringpost_status ringpost_responder_serve(struct ringpost_responder *responder,
                                              ringpost_service service,
                                              void *context,
                                              int64_t timeout_ns);

/**
 * Who calls. Does not block.
 *
 * Requires: `responder` is a handle, `peer` points to a peer.
 */
enum ringpost_status ringpost_responder_peer(struct ringpost_responder *responder,
                                             struct ringpost_peer *peer);

/**
 * A closer, which ends the link from any thread. Does not block. `*out` is yours: end it by
 * ringpost_closer_free.
 *
 * Requires: `responder` is a handle, `out` points to a pointer.
 */
enum ringpost_status ringpost_responder_closer(struct ringpost_responder *responder,
                                               struct ringpost_closer **out);

/**
 * As ringpost_client_readiness, for requests. The link must have been accepted with `arms`. Does not block.
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
 * Ends the link, and frees the handle. Does not block.
 *
 * Requires: `responder` is a handle that no other thread uses.
 */
enum ringpost_status ringpost_responder_free(struct ringpost_responder *responder);

/**
 * Publishes a topic, and waits for the server. `ring_size` is the size of its ring in bytes, or 0 for the
 * usual one: the longest sample is a quarter of it. `reliable_ns` is how long samples may wait for
 * subscribers that want each one, in nanoseconds; with a negative number they never wait. `arms`: the
 * publisher will be waited for in an event loop.
 *
 * `*out` is yours: end it by ringpost_publisher_free. The publisher ends with the client.
 *
 * Requires: `client` is a handle, `topic` is a text, `out` points to a pointer.
 */
enum ringpost_status ringpost_publish(struct ringpost_client *client,
                                      const char *topic,
                                      size_t ring_size,
                                      int64_t reliable_ns,
                                      bool arms,
                                      int64_t timeout_ns,
                                      struct ringpost_publisher **out);

/**
 * Publishes a sample. Waits only for subscribers that want each one, if the publisher offers that: otherwise
 * it does not block.
 *
 * RINGPOST_FULL: a time-out of 0, and such a subscriber is behind. Nothing was published.
 *
 * Requires: `publisher` is a handle, `sample` has `len` bytes.
 */
enum ringpost_status ringpost_publisher_send(struct ringpost_publisher *publisher,
                                             const void *sample,
                                             size_t len,
                                             int64_t timeout_ns);

/**
 * Room in the ring for one sample of up to `len` bytes, to be written there and not copied: `*data` points
 * to it, 8-byte aligned. Waits as ringpost_publisher_send does. What lies there is old: write before you
 * commit.
 *
 * End it by ringpost_publisher_commit or ringpost_publisher_abandon. Until then everything else that is
 * asked of the publisher fails with RINGPOST_IN_USE, except its closer and ringpost_publisher_free, which
 * abandons. Any thread may write and end it. Subscribers get what is written only once it is committed; what
 * is not is overwritten with zeros.
 *
 * Requires: `publisher` is a handle, `data` points to a pointer. Nothing is written behind `len` bytes, nor
 * after the grant has ended.
 */
enum ringpost_status ringpost_publisher_grant(struct ringpost_publisher *publisher,
                                              size_t len,
                                              int64_t timeout_ns,
                                              void **data);

/**
 * Publishes the first `len` bytes of what was granted, and ends the grant. Does not block.
 *
 * RINGPOST_NOTHING_OUTSTANDING: no grant is open.
 * RINGPOST_TOO_LARGE: it was granted less. The grant is still open.
 *
 * Requires: `publisher` is a handle. Nothing is written to the granted bytes any more.
 */
enum ringpost_status ringpost_publisher_commit(struct ringpost_publisher *publisher, size_t len);

/**
 * Ends the grant, and publishes nothing. Does not block.
 *
 * RINGPOST_NOTHING_OUTSTANDING: no grant is open.
 *
 * Requires: as ringpost_publisher_commit.
 */
enum ringpost_status ringpost_publisher_abandon(struct ringpost_publisher *publisher);

/**
 * The longest sample in bytes, and how many subscribers there are. Does not block.
 *
 * Requires: `publisher` is a handle, `max_sample` and `subscribers` point to numbers.
 */
enum ringpost_status ringpost_publisher_limits(struct ringpost_publisher *publisher,
                                               size_t *max_sample,
                                               size_t *subscribers);

/**
 * A closer, which ends the publisher from any thread. Does not block. `*out` is yours: end it by
 * ringpost_closer_free.
 *
 * Requires: `publisher` is a handle, `out` points to a pointer.
 */
enum ringpost_status ringpost_publisher_closer(struct ringpost_publisher *publisher,
                                               struct ringpost_closer **out);

/**
 * As ringpost_client_readiness, for room. The publisher must have been made with `arms`. Does not block.
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
 * Publishes no more, and frees the handle; a grant that is open is abandoned. Subscribers still receive what
 * was published. Tells the server, and waits for that for a second at most.
 *
 * Requires: `publisher` is a handle that no other thread uses.
 */
enum ringpost_status ringpost_publisher_free(struct ringpost_publisher *publisher);

/**
 * Subscribes to all topics that match a pattern, now and later, and waits for the server. `policy` is one of
 * ringpost_policy. `history`: begin with so many of the last samples of each publisher. `arms`: the
 * subscriber will be waited for in an event loop.
 *
 * `*out` is yours: end it by ringpost_subscriber_free. The subscriber ends with the client.
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
 * Waits for a sample as ringpost_subscriber_recv does, but copies nothing: `payload` points to it in the
 * publisher's memory, 8-byte aligned. It stays mapped until ringpost_subscriber_release.
 *
 * The publisher may overwrite the sample meanwhile, unless the policy is RINGPOST_RELIABLE. So read it, and
 * then ask ringpost_subscriber_check or ringpost_subscriber_release whether what was read was the sample.
 * Until then trust no length or index that was read from it.
 *
 * Until the release everything else that is asked of the subscriber fails with RINGPOST_IN_USE, except its
 * closer and ringpost_subscriber_free, which releases. Any thread may read and release it.
 *
 * Requires: `subscriber` is a handle, `sample` points to a sample. Nothing is written to the payload.
 */
enum ringpost_status ringpost_subscriber_view(struct ringpost_subscriber *subscriber,
                                              int64_t timeout_ns,
                                              struct ringpost_sample *sample);

/**
 * Whether what was read so far of the open view was the sample. Does not block.
 *
 * RINGPOST_OVERRUN: it was overwritten, and what was read may be anything.
 * RINGPOST_NOTHING_OUTSTANDING: no view is open.
 *
 * Requires: `subscriber` is a handle.
 */
enum ringpost_status ringpost_subscriber_check(struct ringpost_subscriber *subscriber);

/**
 * Ends the view, whatever this returns: the sample counts as received. Says as ringpost_subscriber_check
 * whether what was read was the sample. Does not block.
 *
 * Requires: `subscriber` is a handle. Nothing is read from the payload any more.
 */
enum ringpost_status ringpost_subscriber_release(struct ringpost_subscriber *subscriber);

/**
 * A closer, which ends the subscription from any thread. Does not block. `*out` is yours: end it by
 * ringpost_closer_free.
 *
 * Requires: `subscriber` is a handle, `out` points to a pointer.
 */
enum ringpost_status ringpost_subscriber_closer(struct ringpost_subscriber *subscriber,
                                                struct ringpost_closer **out);

/**
 * As ringpost_client_readiness, for samples. The subscriber must have been made with `arms`. Does not block.
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
 * Ends the subscription, and frees the handle; a view that is open is released. Tells the server, and waits
 * for that for a second at most.
 *
 * Requires: `subscriber` is a handle that no other thread uses.
 */
enum ringpost_status ringpost_subscriber_free(struct ringpost_subscriber *subscriber);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* RINGPOST_H */

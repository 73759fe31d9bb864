/* Random calls with random handles, by several threads at once: handles of every kind, also such as are in use, wrong
 * or freed. Each call must come back, with a code, and none with RINGPOST_PANICKED.
 *
 *     random SOCKET [SEED] */
#include "expect.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

enum kind { SERVER, CLIENT, CLOSER, LINK, LISTENER, SERVING, INCOMING, RESPONDER, PUBLISHER, SUBSCRIBER, KINDS };

#define PLACES 4
#define THREADS 4
#define ROUNDS 20000
/* A block is used again 1024 frees after its own: stop before. */
#define MOST_FREES 900

static _Atomic(void *) handles[KINDS][PLACES];
static atomic_int frees, calls, done;
static const char *path;

/* Each thread has numbers of its own, which follow from the seed. */
static _Thread_local unsigned state;
static unsigned below(unsigned end) {
    state = state * 1664525u + 1013904223u;
    return (state >> 16) % end;
}

static int echo(void *context, const ringpost_request *request, ringpost_response *response) {
    (void)context;
    if (ringpost_response_write(response, request->payload, request->len) != RINGPOST_OK)
        return 1;
    return request->len == 3;
}

static int visit(void *context, const ringpost_client_info *info) {
    (void)context;
    return info->peer.name[0] == 0;
}

/* Mostly a handle of the kind. */
static void *any(enum kind kind) {
    return handles[below(40) ? kind : below(KINDS)][below(PLACES)];
}

static ringpost_status freed(ringpost_status status) {
    if (status == RINGPOST_OK)
        frees++;
    return status;
}

/* As `freed`, for what frees the handle also if it fails, unless there was none or it is in use. */
static ringpost_status taken(ringpost_status status) {
    if (status == RINGPOST_OK || status > RINGPOST_IN_USE)
        frees++;
    return status;
}

static ringpost_status drop(enum kind kind, void *handle) {
    switch (kind) {
    case CLIENT: return ringpost_client_free(handle);
    case CLOSER: return ringpost_closer_free(handle);
    case LINK: return ringpost_link_free(handle);
    case LISTENER: return ringpost_listener_free(handle);
    case SERVING: return ringpost_serving_stop(handle, -1);
    case INCOMING: return ringpost_incoming_free(handle);
    case RESPONDER: return ringpost_responder_free(handle);
    case PUBLISHER: return ringpost_publisher_free(handle);
    case SUBSCRIBER: return ringpost_subscriber_free(handle);
    default: return RINGPOST_OK;
    }
}

/* Puts a handle into a place, and ends the one that was there, which somebody may be using. */
static void put(enum kind kind, unsigned place, void *handle) {
    void *old = atomic_exchange(&handles[kind][place], handle);
    while (old != NULL && freed(drop(kind, old)) == RINGPOST_IN_USE)
        sched_yield();
}

static ringpost_status made(ringpost_status status, enum kind kind, void *handle) {
    if (status == RINGPOST_OK)
        put(kind, below(PLACES), handle);
    return status;
}

#define MAKE(kind, handle, call) (status = (call), made(status, kind, handle))

static ringpost_status make(int64_t limit) {
    static const char *const names[] = {"a", "b", "c", "d"};
    const char *name = names[below(4)];
    bool arms = below(2);
    ringpost_status status;
    ringpost_client *client;
    ringpost_closer *closer;
    ringpost_link *link;
    ringpost_listener *listener;
    ringpost_serving *serving;
    ringpost_incoming *incoming;
    ringpost_responder *responder;
    ringpost_publisher *publisher;
    ringpost_subscriber *subscriber;
    switch (below(11)) {
    case 0: return MAKE(CLOSER, closer, ringpost_client_closer(any(CLIENT), &closer));
    case 1: return MAKE(LINK, link, ringpost_connect(any(CLIENT), name, arms, limit, &link));
    case 2: return MAKE(LISTENER, listener, ringpost_listen(any(CLIENT), limit, &listener));
    case 3: return freed(MAKE(SERVING, serving, ringpost_listener_serve(any(LISTENER), echo, NULL, NULL, &serving)));
    case 4: return MAKE(INCOMING, incoming, ringpost_listener_accept(any(LISTENER), limit, &incoming));
    case 5: return taken(MAKE(RESPONDER, responder, ringpost_incoming_accept(any(INCOMING), arms, &responder)));
    case 6:
        return MAKE(PUBLISHER, publisher,
                    ringpost_publish(any(CLIENT), "t/a", below(2) * 8192, (int64_t)below(3) - 1, arms, limit, &publisher));
    case 7:
        return MAKE(SUBSCRIBER, subscriber,
                    ringpost_subscribe(any(CLIENT), "t/*", (int)below(4), below(3), arms, limit, &subscriber));
    default: return MAKE(CLIENT, client, ringpost_register(path, name, SECOND, &client));
    }
}

static ringpost_status end(int64_t limit) {
    switch (below(20)) {
    case 0: return taken(ringpost_client_unregister(any(CLIENT), limit));
    case 1: return freed(ringpost_client_free(any(CLIENT)));
    case 2: return freed(ringpost_closer_free(any(CLOSER)));
    case 3: return freed(ringpost_link_free(any(LINK)));
    case 4: return freed(ringpost_listener_free(any(LISTENER)));
    case 5: return freed(ringpost_serving_stop(any(SERVING), limit));
    case 6: return freed(ringpost_incoming_refuse(any(INCOMING), "no"));
    case 7: return freed(ringpost_responder_free(any(RESPONDER)));
    case 8: return freed(ringpost_publisher_free(any(PUBLISHER)));
    case 9: return freed(ringpost_subscriber_free(any(SUBSCRIBER)));
    default: return ringpost_closer_close(any(CLOSER));
    }
}

/* What a pointer leads to is only looked at where nobody else can have used the handle since. */
static ringpost_status use(int64_t limit) {
    static const char data[300];
    size_t len = below(300), number;
    const void *reply;
    void *room;
    bool is;
    int fd;
    uint32_t clients;
    ringpost_key key;
    ringpost_peer peer;
    ringpost_message message;
    ringpost_sample sample;
    switch (below(34)) {
    case 0: return ringpost_client_key(any(CLIENT), &key);
    case 1: return ringpost_client_limits(any(CLIENT), &number, &len);
    case 2: return ringpost_client_call(any(CLIENT), data, len, limit, &reply, &number);
    case 3: return ringpost_client_submit(any(CLIENT), data, len);
    case 4: return ringpost_client_response(any(CLIENT), limit, &reply, &number);
    case 5: return ringpost_client_outstanding(any(CLIENT), &number);
    case 6: return ringpost_client_ping(any(CLIENT), limit);
    case 7: return ringpost_client_send(any(CLIENT), "a", data, len, limit);
    case 8: return ringpost_client_recv(any(CLIENT), limit, &message);
    case 9: return ringpost_client_look_up(any(CLIENT), "b", limit, &key);
    case 10: return ringpost_client_list(any(CLIENT), limit, visit, NULL);
    case 11: return ringpost_client_readiness(any(CLIENT), limit, &fd);
    case 12: return ringpost_client_arm(any(CLIENT), &is);
    case 13: return ringpost_client_inbox_readiness(any(CLIENT), &fd);
    case 14: return ringpost_client_inbox_arm(any(CLIENT), &is);
    case 15: return ringpost_link_call(any(LINK), data, len, limit, &reply, &number);
    case 16: return ringpost_link_submit(any(LINK), data, len);
    case 17: return ringpost_link_response(any(LINK), limit, &reply, &number);
    case 18: return ringpost_link_post(any(LINK), data, len);
    case 19: return ringpost_link_peer(any(LINK), &peer);
    case 20: return ringpost_link_arm(any(LINK), &is);
    case 21: return ringpost_incoming_peer(any(INCOMING), &peer);
    case 22: return ringpost_responder_serve_ready(any(RESPONDER), echo, NULL, &is);
    case 23: return ringpost_responder_arm(any(RESPONDER), &is);
    case 24: return ringpost_publisher_send(any(PUBLISHER), data, len, limit);
    case 25: return ringpost_publisher_grant(any(PUBLISHER), len, limit, &room);
    case 26: return ringpost_publisher_commit(any(PUBLISHER), len / 4);
    case 27: return ringpost_publisher_abandon(any(PUBLISHER));
    case 28: return ringpost_publisher_limits(any(PUBLISHER), &number, &len);
    case 29: return ringpost_subscriber_recv(any(SUBSCRIBER), limit, &sample);
    case 30: return ringpost_subscriber_view(any(SUBSCRIBER), limit, &sample);
    case 31: return ringpost_subscriber_check(any(SUBSCRIBER));
    case 32: return ringpost_subscriber_release(any(SUBSCRIBER));
    default: return ringpost_server_clients(any(SERVER), &clients);
    }
}

static void *run(void *seed) {
    state = *(unsigned *)seed;
    for (int round = 0; round < ROUNDS && frees < MOST_FREES; round++) {
        int64_t limit = below(3) * 1000000;
        unsigned what = below(16);
        ringpost_status status = what == 0 ? end(limit) : what < 4 ? make(limit) : use(limit);
        calls++;
        if (status == RINGPOST_OK)
            done++;
        CHECK(status != RINGPOST_PANICKED);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 2 && argc != 3)
        return 2;
    path = argv[1];
    unsigned seed = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 1, seeds[THREADS];
    ringpost_server *server;
    pthread_t threads[THREADS];
    EXPECT(RINGPOST_OK, ringpost_server_start(path, NULL, echo, NULL, NULL, &server));
    handles[SERVER][0] = server;
    for (unsigned i = 0; i < THREADS; i++) {
        seeds[i] = seed + i * 1000;
        pthread_create(&threads[i], NULL, run, &seeds[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int kind = CLIENT; kind < KINDS; kind++)
        for (unsigned place = 0; place < PLACES; place++)
            put((enum kind)kind, place, NULL);
    printf("random: %d calls, %d of them successful, %d handles freed\n", calls, done, frees);
    /* Half of the calls do nothing but find a mistake: enough of the others must have come through. */
    CHECK(calls > 1000 && done > calls / 20);
    EXPECT(RINGPOST_OK, ringpost_server_stop(server, -1, NULL));
    return 0;
}

/* Threads that use each other's handles, freed ones, wrong ones and NULL at random. Each call gives a code: nothing
 * crashes, hangs or panics. Fewer handles are made than freed ones are kept. */
#include "expect.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>

#define THREADS 4
#define ROUNDS 3000
#define SLOTS 6
#define KINDS 5
#define MOST 1000

enum kind { CLIENT, LINK, PUBLISHER, SUBSCRIBER, CLOSER };

static const char *path;
static _Atomic(void *) slots[KINDS][SLOTS];
static atomic_int done[32];
static atomic_uint names;
static _Atomic(void *) made[KINDS][MOST / KINDS];
static atomic_uint count[KINDS];

static int echo(void *context, const ringpost_request *request, ringpost_response *response) {
    (void)context;
    return ringpost_response_write(response, request->payload, request->len) != RINGPOST_OK;
}

/* xorshift: the same numbers in each run. */
static unsigned next(unsigned *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    return *state ^= *state << 5;
}

static void *any(unsigned *state, enum kind kind) {
    unsigned number = next(state);
    if (number % 64 == 0)
        return NULL;
    if (number % 64 == 1)
        kind = (enum kind)(number / 64 % KINDS);
    return atomic_load(&slots[kind][number / 512 % SLOTS]);
}

static void keep(unsigned *state, enum kind kind, void *handle) {
    atomic_store(&made[kind][atomic_fetch_add(&count[kind], 1)], handle);
    atomic_store(&slots[kind][next(state) % SLOTS], handle);
}

static ringpost_status make(unsigned *state) {
    ringpost_status status;
    void *new = NULL;
    char name[32];
    for (int kind = 0; kind < KINDS; kind++)
        if (atomic_load(&count[kind]) >= MOST / KINDS - THREADS)
            return RINGPOST_OK;
    switch (next(state) % 5) {
    case 0:
        snprintf(name, sizeof name, "client %u", atomic_fetch_add(&names, 1));
        if ((status = ringpost_register(path, name, ENOUGH, (ringpost_client **)&new)) == RINGPOST_OK)
            keep(state, CLIENT, new);
        return status;
    case 1:
        if ((status = ringpost_connect(any(state, CLIENT), "service", false, 100 * MILLISECOND,
                                       (ringpost_link **)&new)) == RINGPOST_OK)
            keep(state, LINK, new);
        return status;
    case 2:
        snprintf(name, sizeof name, "topic/%u", next(state) % 4);
        if ((status = ringpost_publish(any(state, CLIENT), name, 4096, next(state) % 2 ? -1 : MILLISECOND, false,
                                       100 * MILLISECOND, (ringpost_publisher **)&new)) == RINGPOST_OK)
            keep(state, PUBLISHER, new);
        return status;
    case 3:
        if ((status = ringpost_subscribe(any(state, CLIENT), "topic/*", (int)(next(state) % 2), 0, false,
                                         100 * MILLISECOND, (ringpost_subscriber **)&new)) == RINGPOST_OK)
            keep(state, SUBSCRIBER, new);
        return status;
    default:
        if ((status = ringpost_client_closer(any(state, CLIENT), (ringpost_closer **)&new)) == RINGPOST_OK)
            keep(state, CLOSER, new);
        return status;
    }
}

static ringpost_status end(unsigned *state) {
    switch (next(state) % 6) {
    case 0: return ringpost_client_free(any(state, CLIENT));
    case 1: return ringpost_link_free(any(state, LINK));
    case 2: return ringpost_publisher_free(any(state, PUBLISHER));
    case 3: return ringpost_subscriber_free(any(state, SUBSCRIBER));
    case 4: return ringpost_closer_close(any(state, CLOSER));
    default: return ringpost_closer_free(any(state, CLOSER));
    }
}

static ringpost_status use(unsigned *state) {
    const void *reply;
    void *data;
    size_t len;
    ringpost_message message;
    ringpost_sample sample;
    static const char text[64] = "some text that is sent to and fro";
    const size_t size = next(state) % sizeof text;
    const int64_t limit = (int64_t)(next(state) % 3) * MILLISECOND;
    switch (next(state) % 14) {
    case 0: return ringpost_client_call(any(state, CLIENT), text, size, limit, &reply, &len);
    case 1: return ringpost_client_submit(any(state, CLIENT), text, size);
    case 2: return ringpost_client_response(any(state, CLIENT), limit, &reply, &len);
    case 3: return ringpost_client_send(any(state, CLIENT), "client 1", text, size, limit);
    case 4: return ringpost_client_recv(any(state, CLIENT), limit, &message);
    case 5: return ringpost_link_call(any(state, LINK), text, size, limit, &reply, &len);
    case 6: return ringpost_link_post(any(state, LINK), text, size);
    case 7: return ringpost_publisher_send(any(state, PUBLISHER), text, size, limit);
    case 8: return ringpost_publisher_grant(any(state, PUBLISHER), size, limit, &data);
    case 9: return ringpost_publisher_commit(any(state, PUBLISHER), size);
    case 10: return ringpost_publisher_abandon(any(state, PUBLISHER));
    case 11: return ringpost_subscriber_recv(any(state, SUBSCRIBER), limit, &sample);
    case 12: return ringpost_subscriber_view(any(state, SUBSCRIBER), limit, &sample);
    default: return next(state) % 2 ? ringpost_subscriber_release(any(state, SUBSCRIBER))
                                    : ringpost_subscriber_check(any(state, SUBSCRIBER));
    }
}

static void *worker(void *seed) {
    unsigned state = *(unsigned *)seed;
    for (int round = 0; round < ROUNDS; round++) {
        unsigned what = next(&state) % 32;
        ringpost_status status = what < 2 ? make(&state) : what == 2 ? end(&state) : use(&state);
        CHECK(status >= RINGPOST_OK && status <= RINGPOST_EVICTED && status != RINGPOST_PANICKED);
        if (status != RINGPOST_OK)
            CHECK(ringpost_error_text()[0] != '\0');
        atomic_fetch_add(&done[status], 1);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    path = argv[1];
    struct rlimit files; /* Each pair of a publisher and a subscriber has a descriptor. */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    ringpost_server *server;
    ringpost_client *client;
    ringpost_listener *listener;
    ringpost_serving *serving;
    EXPECT(RINGPOST_OK, ringpost_server_start(path, NULL, echo, NULL, NULL, &server));
    EXPECT(RINGPOST_OK, ringpost_register(path, "service", ENOUGH, &client));
    EXPECT(RINGPOST_OK, ringpost_listen(client, ENOUGH, &listener));
    EXPECT(RINGPOST_OK, ringpost_listener_serve(listener, echo, NULL, NULL, &serving));

    pthread_t threads[THREADS];
    unsigned seeds[THREADS];
    for (int i = 0; i < THREADS; i++) {
        seeds[i] = 1 + 1000 * (unsigned)i;
        pthread_create(&threads[i], NULL, worker, &seeds[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int status = 0; status < 32; status++)
        if (done[status])
            printf("code %d: %d times\n", status, done[status]);
    /* It has come across what it is about. */
    CHECK(done[RINGPOST_OK] && done[RINGPOST_NULL_POINTER] && done[RINGPOST_FREED_HANDLE] && done[RINGPOST_WRONG_HANDLE]);
    CHECK(done[RINGPOST_IN_USE] && done[RINGPOST_NOTHING_OUTSTANDING]);

    for (unsigned i = 0; i < MOST / KINDS; i++) {
        ringpost_link_free(made[LINK][i]);
        ringpost_publisher_free(made[PUBLISHER][i]);
        ringpost_subscriber_free(made[SUBSCRIBER][i]);
        ringpost_closer_free(made[CLOSER][i]);
        ringpost_client_free(made[CLIENT][i]);
    }
    EXPECT(RINGPOST_OK, ringpost_serving_stop(serving, -1));
    EXPECT(RINGPOST_OK, ringpost_client_free(client));
    EXPECT(RINGPOST_OK, ringpost_server_stop(server, -1, NULL));
    return 0;
}

/* A link: "sums" serves on threads of its own, "asker" connects to it by name and asks. Then "sums" lets a client in by
 * hand, and serves it on its own thread. All of them, and the server, are in this one program; usually they are three.
 *
 *     link SOCKET */
#include "common.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>

/* Adds the numbers of the request. */
static int sum(void *context, const ringpost_request *request, ringpost_response *response) {
    (void)context;
    uint64_t total = 0, number;
    if (request->len % sizeof number != 0)
        return ringpost_response_fail(response, "send whole numbers") != RINGPOST_OK;
    for (size_t at = 0; at < request->len; at += sizeof number) {
        memcpy(&number, (const char *)request->payload + at, sizeof number); /* it may not be aligned */
        total += number;
    }
    return ringpost_response_write(response, &total, sizeof total) != RINGPOST_OK;
}

static void gone(void *context) {
    *(int *)context = 1;
}

/* Asks once more, on a thread of its own. */
static void *ask(void *asker) {
    const uint64_t numbers[] = {40, 2};
    ringpost_link *link;
    const void *reply;
    size_t len;
    uint64_t total;
    need(ringpost_connect(asker, "sums", false, LIMIT, &link), "connect");
    need(ringpost_link_call(link, numbers, sizeof numbers, LIMIT, &reply, &len), "call");
    memcpy(&total, reply, sizeof total);
    printf("the sum is %" PRIu64 "\n", total);
    need(ringpost_link_free(link), "close");
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s SOCKET\n", argv[0]);
        return 2;
    }
    ringpost_server *server;
    need(ringpost_server_start(argv[1], NULL, NULL, NULL, NULL, &server), "start");

    ringpost_client *sums;
    ringpost_listener *listener;
    ringpost_serving *serving;
    int released = 0;
    need(ringpost_register(argv[1], "sums", LIMIT, &sums), "register");
    need(ringpost_listen(sums, LIMIT, &listener), "listen");
    need(ringpost_listener_serve(listener, sum, &released, gone, &serving), "serve");

    ringpost_client *asker;
    ringpost_link *link;
    need(ringpost_register(argv[1], "asker", LIMIT, &asker), "register");
    need(ringpost_connect(asker, "sums", false, LIMIT, &link), "connect");

    const uint64_t numbers[] = {1, 20, 300};
    const void *reply;
    size_t len;
    uint64_t total;
    need(ringpost_link_call(link, numbers, sizeof numbers, LIMIT, &reply, &len), "call");
    if (len != sizeof total)
        return 1;
    memcpy(&total, reply, sizeof total);
    printf("the sum is %" PRIu64 "\n", total);

    /* Two calls under way at once, and one that fails. */
    need(ringpost_link_submit(link, numbers, 8), "submit");
    need(ringpost_link_submit(link, numbers + 1, 16), "submit");
    need(ringpost_link_response(link, LIMIT, &reply, &len), "response");
    need(ringpost_link_response(link, LIMIT, &reply, &len), "response");
    if (ringpost_link_call(link, "x", 1, LIMIT, &reply, &len) != RINGPOST_SERVICE_FAILED ||
        strcmp(ringpost_error_text(), "send whole numbers") != 0)
        return 1;

    ringpost_peer peer;
    need(ringpost_link_peer(link, &peer), "peer");
    if (total != 321 || strcmp(peer.name, "sums") != 0)
        return 1;
    need(ringpost_link_free(link), "close");
    need(ringpost_serving_stop(serving, LIMIT), "stop serving");

    /* By hand: who is it? Serve until it ends the link. */
    ringpost_incoming *incoming;
    ringpost_responder *responder;
    pthread_t thread;
    need(ringpost_listen(sums, LIMIT, &listener), "listen");
    pthread_create(&thread, NULL, ask, asker);
    need(ringpost_listener_accept(listener, LIMIT, &incoming), "wait for a client");
    need(ringpost_incoming_peer(incoming, &peer), "who it is");
    printf("%s wants to come in: process %u of user %u\n", peer.name, peer.pid, peer.uid);
    need(ringpost_incoming_accept(incoming, false, &responder), "accept");
    need(ringpost_responder_serve(responder, sum, NULL, -1), "serve");
    pthread_join(thread, NULL);
    need(ringpost_responder_free(responder), "free");
    need(ringpost_listener_free(listener), "listen no more");
    need(ringpost_client_unregister(asker, LIMIT), "unregister");
    need(ringpost_client_unregister(sums, LIMIT), "unregister");
    need(ringpost_server_stop(server, LIMIT, NULL), "stop");
    return released ? 0 : 1;
}

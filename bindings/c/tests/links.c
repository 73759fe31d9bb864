/* Links that are accepted or refused by hand, and ends that services hold up. */
#include "expect.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

static const char *path;
static int entered[2], leave[2]; /* pipes: a service says that it runs, and waits until it may return */
static int released;

static void release(void *context) {
    ++*(int *)context;
}

static int slow(void *context, const ringpost_request *request, ringpost_response *response) {
    char byte = 0;
    (void)context;
    if (request->len == 0)
        return 0;
    if (write(entered[1], &byte, 1) != 1 || read(leave[0], &byte, 1) != 1)
        return 1;
    return ringpost_response_write(response, "late", 4) != RINGPOST_OK;
}

/* Asks for four links. */
static void *caller(void *unused) {
    ringpost_client *client;
    ringpost_link *link;
    const void *reply;
    size_t len;
    (void)unused;
    EXPECT(RINGPOST_OK, ringpost_register(path, "caller", ENOUGH, &client));
    EXPECT(RINGPOST_REFUSED, ringpost_connect(client, "server", false, -1, &link));
    CHECK(strstr(ringpost_error_text(), "not you") != NULL);
    EXPECT(RINGPOST_GONE, ringpost_connect(client, "server", false, -1, &link));
    EXPECT(RINGPOST_OK, ringpost_connect(client, "server", false, -1, &link));
    ringpost_status status = ringpost_link_call(link, "x", 1, -1, &reply, &len);
    CHECK(status == RINGPOST_DISCONNECTED || status == RINGPOST_NOT_SENT);
    EXPECT(RINGPOST_OK, ringpost_link_free(link));
    EXPECT(RINGPOST_OK, ringpost_connect(client, "server", false, -1, &link));
    EXPECT(RINGPOST_OK, ringpost_link_call(link, NULL, 0, -1, &reply, &len));
    CHECK(len == 0);
    char byte; /* The main thread has seen that the link goes on. */
    CHECK(read(leave[0], &byte, 1) == 1);
    EXPECT(RINGPOST_OK, ringpost_link_free(link));
    EXPECT(RINGPOST_OK, ringpost_client_unregister(client, ENOUGH));
    return NULL;
}

static void drain(int pipe) {
    char byte;
    CHECK(read(pipe, &byte, 1) == 1);
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    path = argv[1];
    ringpost_server *server;
    ringpost_client *client;
    ringpost_listener *listener, *second;
    ringpost_incoming *incoming;
    ringpost_closer *closer;
    ringpost_responder *responder;
    ringpost_peer peer;
    pthread_t thread;
    ringpost_status status;
    CHECK(pipe(entered) == 0 && pipe(leave) == 0);
    ringpost_server_options patient = {.size = sizeof patient, .grace_ns = 60 * SECOND};
    EXPECT(RINGPOST_OK, ringpost_server_start(path, &patient, slow, &released, release, &server));
    EXPECT(RINGPOST_OK, ringpost_register(path, "server", ENOUGH, &client));
    EXPECT(RINGPOST_OK, ringpost_listen(client, ENOUGH, &listener));
    EXPECT(RINGPOST_IN_USE, ringpost_listen(client, ENOUGH, &second));
    EXPECT(RINGPOST_TIMED_OUT, ringpost_listener_accept(listener, 0, &incoming));
    EXPECT(RINGPOST_TIMED_OUT, ringpost_listener_accept(listener, MILLISECOND, &incoming));

    /* By who calls. */
    pthread_create(&thread, NULL, caller, NULL);
    EXPECT(RINGPOST_OK, ringpost_listener_accept(listener, -1, &incoming));
    EXPECT(RINGPOST_OK, ringpost_incoming_peer(incoming, &peer));
    CHECK(strcmp(peer.name, "caller") == 0 && peer.pid == (uint32_t)getpid() && peer.uid == geteuid());
    EXPECT(RINGPOST_NULL_POINTER, ringpost_incoming_refuse(incoming, NULL));
    EXPECT(RINGPOST_NULL_POINTER, ringpost_incoming_accept(incoming, false, NULL));
    EXPECT(RINGPOST_WRONG_HANDLE, ringpost_listener_free((ringpost_listener *)(void *)incoming));
    EXPECT(RINGPOST_OK, ringpost_incoming_refuse(incoming, "not you"));
    EXPECT(RINGPOST_FREED_HANDLE, ringpost_incoming_refuse(incoming, "not you"));
    EXPECT(RINGPOST_OK, ringpost_listener_accept(listener, -1, &incoming));
    EXPECT(RINGPOST_OK, ringpost_incoming_free(incoming));
    EXPECT(RINGPOST_OK, ringpost_listener_accept(listener, -1, &incoming));
    EXPECT(RINGPOST_OK, ringpost_incoming_accept(incoming, false, &responder));
    EXPECT(RINGPOST_INVALID_ARGUMENT, ringpost_responder_serve(responder, slow, NULL, ENOUGH));
    EXPECT(RINGPOST_OK, ringpost_responder_free(responder));
    EXPECT(RINGPOST_OK, ringpost_listener_accept(listener, -1, &incoming));
    EXPECT(RINGPOST_OK, ringpost_incoming_accept(incoming, true, &responder));
    EXPECT(RINGPOST_FREED_HANDLE, ringpost_incoming_peer(incoming, &peer));
    EXPECT(RINGPOST_OK, ringpost_responder_peer(responder, &peer));
    CHECK(strcmp(peer.name, "caller") == 0);
    /* Until the caller ends the link, which it does only when it has been served and told to. */
    EXPECT(RINGPOST_TIMED_OUT, ringpost_responder_serve(responder, slow, NULL, 0));
    CHECK(write(leave[1], "x", 1) == 1);
    while ((status = ringpost_responder_serve(responder, slow, NULL, MILLISECOND)) == RINGPOST_TIMED_OUT)
        ;
    EXPECT(RINGPOST_OK, status);
    EXPECT(RINGPOST_OK, ringpost_responder_serve(responder, slow, NULL, -1));
    EXPECT(RINGPOST_OK, ringpost_responder_free(responder));
    pthread_join(thread, NULL);

    /* A serving whose service does not return is waited for as long as one likes. */
    ringpost_serving *serving;
    ringpost_client *other;
    ringpost_link *link;
    int served = 0;
    EXPECT(RINGPOST_NULL_POINTER, ringpost_listener_serve(listener, NULL, &served, release, &serving));
    EXPECT(RINGPOST_OK, ringpost_listener_serve(listener, slow, &served, release, &serving));
    EXPECT(RINGPOST_FREED_HANDLE, ringpost_listener_free(listener));
    EXPECT(RINGPOST_OK, ringpost_register(path, "other", ENOUGH, &other));
    EXPECT(RINGPOST_OK, ringpost_connect(other, "server", false, ENOUGH, &link));
    EXPECT(RINGPOST_OK, ringpost_link_submit(link, "x", 1));
    drain(entered[0]);
    EXPECT(RINGPOST_TIMED_OUT, ringpost_serving_stop(serving, MILLISECOND));
    EXPECT(RINGPOST_TIMED_OUT, ringpost_serving_stop(serving, 0));
    CHECK(served == 0);
    CHECK(write(leave[1], "x", 1) == 1);
    EXPECT(RINGPOST_OK, ringpost_serving_stop(serving, -1));
    EXPECT(RINGPOST_FREED_HANDLE, ringpost_serving_stop(serving, -1));
    CHECK(served == 1);

    /* A closer ends the wait for links. */
    EXPECT(RINGPOST_OK, ringpost_listen(client, ENOUGH, &listener));
    EXPECT(RINGPOST_OK, ringpost_listener_closer(listener, &closer));
    EXPECT(RINGPOST_OK, ringpost_closer_close(closer));
    EXPECT(RINGPOST_DISCONNECTED, ringpost_listener_accept(listener, -1, &incoming));
    EXPECT(RINGPOST_OK, ringpost_closer_free(closer));
    EXPECT(RINGPOST_OK, ringpost_listener_free(listener));
    EXPECT(RINGPOST_OK, ringpost_link_free(link));

    /* So is a server. */
    uint32_t clients;
    ringpost_server_summary done;
    EXPECT(RINGPOST_OK, ringpost_server_clients(server, &clients));
    CHECK(clients == 2);
    EXPECT(RINGPOST_OK, ringpost_client_submit(other, "x", 1));
    drain(entered[0]);
    EXPECT(RINGPOST_TIMED_OUT, ringpost_server_stop(server, MILLISECOND, &done));
    EXPECT(RINGPOST_SHUTTING_DOWN, ringpost_server_clients(server, &clients));
    EXPECT(RINGPOST_OK, ringpost_server_shutdown(server));
    CHECK(write(leave[1], "x", 1) == 1);
    EXPECT(RINGPOST_OK, ringpost_server_stop(server, -1, &done));
    EXPECT(RINGPOST_FREED_HANDLE, ringpost_server_stop(server, -1, &done));
    CHECK(released == 1 && done.registered == 3 && done.calls == 1 && done.abandoned == 0);
    EXPECT(RINGPOST_OK, ringpost_client_free(client));
    EXPECT(RINGPOST_OK, ringpost_client_free(other));
    puts("links: as the header says");
    return 0;
}

/* Each mistake that can be known gets its code: NULL, wrong handles, handles that were freed, a handle that is
 * in use, bad text, limits. Run by `test` with and without AddressSanitizer, and by valgrind. */
#include "expect.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *path;
static ringpost_client *shared;
static int released;

static void release(void *context) {
    ++*(int *)context;
}

static int failing(void *context, const ringpost_request *request, ringpost_response *response) {
    (void)context;
    if (request->len == 0)
        return 7;
    if (request->len == 1)
        return ringpost_response_fail(response, "out of order") != RINGPOST_OK;
    if (request->len == 2) {
        size_t room;
        if (ringpost_response_remaining(response, &room) != RINGPOST_OK)
            return 1;
        char *much = calloc(room + 1, 1);
        ringpost_status status = ringpost_response_write(response, much, room + 1);
        free(much);
        return status == RINGPOST_TOO_LARGE ? 0 : 1;
    }
    if (request->len == 4) {
        char text[2 * RINGPOST_ERROR_TEXT_SIZE + 1];
        for (int i = 0; i < RINGPOST_ERROR_TEXT_SIZE; i++)
            memcpy(text + 2 * i, "\xc3\xa9", 3);
        return ringpost_response_fail(response, text) != RINGPOST_OK;
    }
    return ringpost_response_write(response, request->peer.name, strlen(request->peer.name)) != RINGPOST_OK;
}

/* Waits in the shared client until it is closed. The main thread looks into the same client to learn whether this one
 * waits, and may be first. */
static void *receiver(void *unused) {
    ringpost_message message;
    ringpost_status status;
    (void)unused;
    while ((status = ringpost_client_recv(shared, -1, &message)) == RINGPOST_IN_USE)
        ;
    EXPECT(RINGPOST_DISCONNECTED, status);
    return NULL;
}

/* A signal handler may close. */
static ringpost_closer *of_handler;

static void on_signal(int number) {
    (void)number;
    if (ringpost_closer_close(of_handler) != RINGPOST_OK)
        _exit(1);
}

static int count(void *context, const ringpost_client_info *info) {
    (void)info;
    ++*(int *)context;
    return 0;
}

static int stop(void *context, const ringpost_client_info *info) {
    count(context, info);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    path = argv[1];
    const void *reply = &released;
    size_t len = 5;
    ringpost_client *client = NULL, *other = NULL;
    ringpost_closer *closer;
    ringpost_server *server, *second;
    ringpost_message message;
    ringpost_key key;

    CHECK(ringpost_abi_version() == RINGPOST_ABI_VERSION);

    /* No server, and a server twice. */
    EXPECT(RINGPOST_NO_SERVER, ringpost_register(path, "alice", ENOUGH, &client));
    CHECK(client == NULL && strstr(ringpost_error_text(), path) != NULL);
    ringpost_server_options patient = {.size = sizeof patient, .grace_ns = 60 * SECOND};
    EXPECT(RINGPOST_OK, ringpost_server_start(path, &patient, failing, &released, release, &server));
    EXPECT(RINGPOST_IN_USE, ringpost_server_start(path, NULL, failing, &released, release, &second));
    CHECK(released == 1);

    /* Options. */
    ringpost_server_options options = {.max_clients = 1};
    EXPECT(RINGPOST_INVALID_ARGUMENT, ringpost_server_start(path, &options, failing, &released, release, &second));
    options.size = sizeof options;
    options.ring_size = 5;
    EXPECT(RINGPOST_INVALID_ARGUMENT, ringpost_server_start(path, &options, failing, &released, release, &second));
    options.ring_size = 0;
    options.allow_users_len = 1;
    EXPECT(RINGPOST_NULL_POINTER, ringpost_server_start(path, &options, failing, &released, release, &second));
    CHECK(released == 4);
    released = 1;

    /* NULL, and bad text. */
    EXPECT(RINGPOST_NULL_POINTER, ringpost_register(path, NULL, ENOUGH, &client));
    EXPECT(RINGPOST_NULL_POINTER, ringpost_register(path, "alice", ENOUGH, NULL));
    EXPECT(RINGPOST_INVALID_ARGUMENT, ringpost_register(path, "\xff", ENOUGH, &client));
    EXPECT(RINGPOST_INVALID_NAME, ringpost_register(path, "", ENOUGH, &client));
    EXPECT(RINGPOST_OK, ringpost_register(path, "alice", ENOUGH, &client));
    EXPECT(RINGPOST_NAME_TAKEN, ringpost_register(path, "alice", ENOUGH, &other));
    EXPECT(RINGPOST_NULL_POINTER, ringpost_client_call(NULL, "x", 1, ENOUGH, &reply, &len));
    EXPECT(RINGPOST_NULL_POINTER, ringpost_client_call(client, NULL, 1, ENOUGH, &reply, &len));
    EXPECT(RINGPOST_NULL_POINTER, ringpost_client_call(client, "x", 1, ENOUGH, NULL, &len));
    EXPECT(RINGPOST_INVALID_ARGUMENT, ringpost_client_call(client, "x", SIZE_MAX, ENOUGH, &reply, &len));
    EXPECT(RINGPOST_NULL_POINTER, ringpost_client_free(NULL));
    EXPECT(RINGPOST_NULL_POINTER, ringpost_client_list(client, ENOUGH, NULL, NULL));
    CHECK(reply == &released && len == 5);

    /* Wrong handles. */
    EXPECT(RINGPOST_WRONG_HANDLE, ringpost_client_free((ringpost_client *)(void *)server));
    EXPECT(RINGPOST_WRONG_HANDLE, ringpost_server_stop((ringpost_server *)(void *)client, ENOUGH, NULL));

    /* Services that fail. */
    EXPECT(RINGPOST_SERVICE_FAILED, ringpost_client_call(client, NULL, 0, ENOUGH, &reply, &len));
    CHECK(strcmp(ringpost_error_text(), "the service returned 7") == 0 && ringpost_error_may_have_executed());
    EXPECT(RINGPOST_SERVICE_FAILED, ringpost_client_call(client, "1", 1, ENOUGH, &reply, &len));
    CHECK(strcmp(ringpost_error_text(), "out of order") == 0);
    EXPECT(RINGPOST_RESPONSE_TOO_LARGE, ringpost_client_call(client, "12", 2, ENOUGH, &reply, &len));
    EXPECT(RINGPOST_OK, ringpost_client_call(client, "123", 3, -1, &reply, &len));
    CHECK(len == 5 && memcmp(reply, "alice", 5) == 0);

    /* A long text is cut between characters. */
    EXPECT(RINGPOST_SERVICE_FAILED, ringpost_client_call(client, "1234", 4, ENOUGH, &reply, &len));
    CHECK(strlen(ringpost_error_text()) == RINGPOST_ERROR_TEXT_SIZE - 2);
    CHECK(strcmp(ringpost_error_text() + RINGPOST_ERROR_TEXT_SIZE - 4, "\xc3\xa9") == 0);

    /* Sizes and times. */
    size_t max_call, max_message;
    EXPECT(RINGPOST_OK, ringpost_client_limits(client, &max_call, &max_message));
    char *much = calloc(max_call + 1, 1);
    EXPECT(RINGPOST_TOO_LARGE, ringpost_client_call(client, much, max_call + 1, ENOUGH, &reply, &len));
    CHECK(!ringpost_error_may_have_executed());
    EXPECT(RINGPOST_OK, ringpost_client_call(client, much, max_call, ENOUGH, &reply, &len));
    free(much);
    EXPECT(RINGPOST_TIMED_OUT, ringpost_client_recv(client, 0, &message));
    EXPECT(RINGPOST_TIMED_OUT, ringpost_client_recv(client, 1000, &message));
    EXPECT(RINGPOST_NOTHING_OUTSTANDING, ringpost_client_response(client, 0, &reply, &len));
    EXPECT(RINGPOST_OK, ringpost_client_submit(client, "123", 3));
    EXPECT(RINGPOST_OK, ringpost_client_response(client, ENOUGH, &reply, &len));
    CHECK(len == 5);
    EXPECT(RINGPOST_NOT_FOUND, ringpost_client_look_up(client, "nobody", ENOUGH, &key));
    EXPECT(RINGPOST_TIMED_OUT, ringpost_client_wait_for(client, "nobody", 1000, &key));
    EXPECT(RINGPOST_NOT_FOUND, ringpost_client_send(client, "nobody", "x", 1, ENOUGH));
    int found = 0;
    EXPECT(RINGPOST_OK, ringpost_register(path, "bob", ENOUGH, &other));
    EXPECT(RINGPOST_OK, ringpost_client_list(client, ENOUGH, count, &found));
    EXPECT(RINGPOST_OK, ringpost_client_list(client, ENOUGH, stop, &found));
    CHECK(found == 3);

    /* A full inbox. */
    int sent = 0;
    ringpost_status status;
    while ((status = ringpost_client_send(client, "bob", "0123456789", 10, 0)) == RINGPOST_OK)
        sent++;
    CHECK(status == RINGPOST_FULL && sent > 100);
    EXPECT(RINGPOST_OK, ringpost_client_recv(other, 0, &message));
    CHECK(message.len == 10 && strcmp(message.sender_name, "alice") == 0);

    /* Messages that are submitted, among the calls. */
    EXPECT(RINGPOST_OK, ringpost_client_look_up(client, "bob", ENOUGH, &key));
    EXPECT(RINGPOST_OK, ringpost_client_submit_send(client, &key, "one", 3, 0));
    EXPECT(RINGPOST_OK, ringpost_client_submit(client, "123", 3));
    while ((status = ringpost_client_sent(client)) == RINGPOST_TIMED_OUT)
        ;
    EXPECT(RINGPOST_OK, status);
    EXPECT(RINGPOST_OK, ringpost_client_response(client, ENOUGH, &reply, &len));
    CHECK(len == 5);
    EXPECT(RINGPOST_NOTHING_OUTSTANDING, ringpost_client_sent(client));
    while (ringpost_client_send(client, "bob", "0123456789", 10, 0) == RINGPOST_OK)
        ;
    EXPECT(RINGPOST_OK, ringpost_client_submit_send(client, &key, "0123456789", 10, MILLISECOND));
    while ((status = ringpost_client_sent(client)) == RINGPOST_TIMED_OUT)
        ;
    EXPECT(RINGPOST_FULL, status);
    EXPECT(RINGPOST_NULL_POINTER, ringpost_client_submit_send(client, NULL, "one", 3, 0));

    /* One thread at a time, and a closer from another. A used handle is not freed. */
    shared = other;
    while (ringpost_client_recv(other, 0, &message) == RINGPOST_OK)
        ;
    EXPECT(RINGPOST_OK, ringpost_client_closer(other, &closer));
    pthread_t thread;
    pthread_create(&thread, NULL, receiver, NULL);
    while ((status = ringpost_client_recv(other, 0, &message)) == RINGPOST_TIMED_OUT)
        usleep(100);
    CHECK(status == RINGPOST_IN_USE);
    int fd;
    EXPECT(RINGPOST_IN_USE, ringpost_client_inbox_readiness(other, &fd));
    EXPECT(RINGPOST_OK, ringpost_client_call(other, "123", 3, ENOUGH, &reply, &len)); /* the other half */
    EXPECT(RINGPOST_IN_USE, ringpost_client_free(other));
    EXPECT(RINGPOST_OK, ringpost_closer_close(closer));
    pthread_join(thread, NULL);
    EXPECT(RINGPOST_NOT_SENT, ringpost_client_call(other, "123", 3, ENOUGH, &reply, &len));
    EXPECT(RINGPOST_OK, ringpost_client_free(other));
    EXPECT(RINGPOST_OK, ringpost_closer_close(closer));
    EXPECT(RINGPOST_OK, ringpost_closer_free(closer));

    /* Freed before. */
    EXPECT(RINGPOST_FREED_HANDLE, ringpost_client_free(other));
    EXPECT(RINGPOST_FREED_HANDLE, ringpost_client_call(other, "123", 3, ENOUGH, &reply, &len));
    EXPECT(RINGPOST_FREED_HANDLE, ringpost_closer_close(closer));

    /* A signal that comes in a wait ends it by a closer, and only so. */
    EXPECT(RINGPOST_OK, ringpost_register(path, "carol", ENOUGH, &other));
    EXPECT(RINGPOST_OK, ringpost_client_closer(other, &of_handler));
    signal(SIGUSR1, on_signal);
    shared = other;
    pthread_create(&thread, NULL, receiver, NULL);
    while ((status = ringpost_client_recv(other, 0, &message)) == RINGPOST_TIMED_OUT)
        usleep(100);
    CHECK(status == RINGPOST_IN_USE);
    pthread_kill(thread, SIGUSR1);
    pthread_join(thread, NULL);
    EXPECT(RINGPOST_OK, ringpost_closer_free(of_handler));
    EXPECT(RINGPOST_OK, ringpost_client_free(other));

    /* A forked child has no use of its parent's client. It becomes another program, as valgrind would search it for
     * leaks at an exit, and would take what the threads that it has not inherited own for lost. */
    pid_t child = fork();
    if (child == 0) {
        if (ringpost_client_call(client, "123", 3, ENOUGH, &reply, &len) == RINGPOST_FORKED)
            execlp("true", "true", (char *)NULL);
        _exit(1);
    }
    int ended;
    waitpid(child, &ended, 0);
    CHECK(ended == 0);

    ringpost_server_summary done;
    EXPECT(RINGPOST_OK, ringpost_server_stop(server, -1, &done));
    CHECK(released == 2 && done.registered == 3 && done.calls == 9 && done.abandoned == 0);
    EXPECT(RINGPOST_DISCONNECTED, ringpost_client_recv(client, -1, &message));
    EXPECT(RINGPOST_NOT_SENT, ringpost_client_unregister(client, ENOUGH));
    EXPECT(RINGPOST_FREED_HANDLE, ringpost_client_unregister(client, ENOUGH));
    puts("mistakes: each got its code");
    return 0;
}

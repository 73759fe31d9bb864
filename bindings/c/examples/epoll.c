/* An event loop: "alice" waits by epoll for messages and responses of the bus, and for a pipe. Her only wait is
 * epoll_wait.
 *
 *     epoll SOCKET */
#include "common.h"

#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static int lines[2]; /* a pipe: stands for any descriptor of your program */
static const char *path;

/* Somebody at the other end of the pipe, and another client. */
static void *others(void *unused) {
    ringpost_client *bob;
    (void)unused;
    if (write(lines[1], "a line", 6) != 6)
        exit(1);
    need(ringpost_register(path, "bob", LIMIT, &bob), "register");
    need(ringpost_client_send(bob, "alice", "hello", 5, LIMIT), "send");
    need(ringpost_client_unregister(bob, LIMIT), "unregister");
    return NULL;
}

/* Takes all that is there. */
static void look(ringpost_client *alice, int *responses, int *messages) {
    ringpost_status status;
    ringpost_message message;
    const void *reply;
    size_t len;
    while ((status = ringpost_client_response(alice, 0, &reply, &len)) == RINGPOST_OK) {
        printf("response: %.*s\n", (int)len, (const char *)reply);
        ++*responses;
    }
    if (status != RINGPOST_TIMED_OUT && status != RINGPOST_NOTHING_OUTSTANDING)
        need(status, "response");
    while ((status = ringpost_client_recv(alice, 0, &message)) == RINGPOST_OK) {
        printf("%s: %.*s\n", message.sender_name, (int)message.len, (const char *)message.payload);
        ++*messages;
    }
    if (status != RINGPOST_TIMED_OUT)
        need(status, "receive");
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s SOCKET\n", argv[0]);
        return 2;
    }
    path = argv[1];
    ringpost_server *server;
    ringpost_client *alice;
    need(ringpost_server_start(path, NULL, NULL, NULL, NULL, &server), "start");
    need(ringpost_register(path, "alice", LIMIT, &alice), "register");

    int fds[3], loop = epoll_create1(EPOLL_CLOEXEC);
    if (loop < 0 || pipe(lines) != 0)
        return 1;
    need(ringpost_client_readiness(alice, LIMIT, &fds[0]), "readiness for responses");
    need(ringpost_client_inbox_readiness(alice, &fds[1]), "readiness for messages");
    fds[2] = lines[0];
    struct epoll_event event;
    for (int i = 0; i < 3; i++) {
        event = (struct epoll_event){.events = EPOLLIN, .data.fd = fds[i]};
        if (epoll_ctl(loop, EPOLL_CTL_ADD, fds[i], &event) != 0)
            return 1;
    }
    pthread_t thread;
    pthread_create(&thread, NULL, others, NULL);

    int responses = 0, messages = 0;
    for (;;) {
        /* Look until nothing is there, and arm: only then wait. */
        bool armed = false;
        while (!armed) {
            look(alice, &responses, &messages);
            if (responses == 1 && messages == 1)
                break;
            need(ringpost_client_arm(alice, &armed), "arm for responses");
            if (armed)
                need(ringpost_client_inbox_arm(alice, &armed), "arm for messages");
        }
        if (!armed)
            break;
        if (epoll_wait(loop, &event, 1, 10000) != 1)
            return 1;
        if (event.data.fd == lines[0]) {
            char line[64];
            ssize_t len = read(lines[0], line, sizeof line);
            if (len < 0)
                return 1;
            need(ringpost_client_submit(alice, line, (size_t)len), "submit");
        } /* An event of the bus says no more than to look, which is done before each wait. */
    }
    pthread_join(thread, NULL);
    need(ringpost_client_unregister(alice, LIMIT), "unregister");
    need(ringpost_server_stop(server, LIMIT, NULL), "stop");
    close(loop);
    close(lines[0]);
    close(lines[1]);
    return 0;
}

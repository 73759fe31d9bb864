/* A server: clients register with it under names, send each other messages, and call its service, which answers
 * with the text in capital letters.
 *
 *     server [SOCKET]
 *
 * It says "ready" when clients can come, and ends at SIGTERM or SIGINT. */
#define _POSIX_C_SOURCE 200809L /* signals, beside C11 */
#include "common.h"

#include <ctype.h>
#include <signal.h>
#include <stdatomic.h>

static int capitals(void *context, const ringpost_request *request, ringpost_response *response) {
    atomic_ulong *calls = context; /* several threads may be here at once */
    const unsigned char *text = request->payload;
    char line[256];
    if (request->len > sizeof line)
        return ringpost_response_fail(response, "that is too long") != RINGPOST_OK;
    for (size_t i = 0; i < request->len; i++)
        line[i] = (char)toupper(text[i]);
    atomic_fetch_add(calls, 1);
    return ringpost_response_write(response, line, request->len) != RINGPOST_OK;
}

int main(int argc, char **argv) {
    if (argc > 2) {
        fprintf(stderr, "usage: %s [SOCKET]\n", argv[0]);
        return 2;
    }
    const char *path = argc == 2 ? argv[1] : NULL; /* NULL: the default path */
    /* Blocked in every thread, and taken below. */
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);

    static atomic_ulong calls;
    ringpost_server *server;
    need(ringpost_server_start(path, NULL, capitals, &calls, NULL, &server), "start");
    puts("ready");
    fflush(stdout);
    int signal_number;
    sigwait(&ends, &signal_number);

    ringpost_server_summary done;
    need(ringpost_server_stop(server, LIMIT, &done), "stop");
    printf("registered %llu, calls %lu, messages %llu\n", (unsigned long long)done.registered,
           atomic_load(&calls), (unsigned long long)done.messages);
    return 0;
}

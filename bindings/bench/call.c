/* The C end of bindings/figures: for each line with a number, makes so many calls of 48 bytes and prints the
 * nanoseconds of one. As the Rust end does it.
 *
 *     call PATH */
#include <ringpost.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WARM = 2000, LEN = 48 };

static void need(ringpost_status status, const char *what) {
    if (status != RINGPOST_OK) {
        fprintf(stderr, "%s: %s\n", what, ringpost_error_text());
        exit(1);
    }
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static double calls(const char *path, long count) {
    ringpost_client *client;
    need(ringpost_register(path, "c", 5000000000, &client), "register");
    unsigned char request[LEN];
    memset(request, 7, LEN);
    const void *reply;
    size_t len;
    for (int i = 0; i < WARM; i++) {
        need(ringpost_client_call(client, request, LEN, -1, &reply, &len), "call");
        if (len != LEN || memcmp(reply, request, LEN) != 0) {
            fprintf(stderr, "the response is not the request\n");
            exit(1);
        }
    }
    double start = now();
    for (long i = 0; i < count; i++)
        need(ringpost_client_call(client, request, LEN, -1, &reply, &len), "call");
    double time = now() - start;
    need(ringpost_client_unregister(client, 5000000000), "unregister");
    return time / (double)count;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s PATH\n", argv[0]);
        return 2;
    }
    char line[32];
    while (fgets(line, sizeof line, stdin)) {
        printf("%f\n", calls(argv[1], atol(line)));
        fflush(stdout);
    }
    return 0;
}

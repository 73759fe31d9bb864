/* Samples in place: what can be done while a grant or a view is open, and how they end. */
#include "expect.h"

#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static ringpost_publisher *publisher;
static ringpost_subscriber *subscriber;

/* What one thread has granted and viewed, another may end. */
static void *ends(void *unused) {
    (void)unused;
    EXPECT(RINGPOST_OK, ringpost_publisher_commit(publisher, 5));
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    ringpost_server *server;
    ringpost_client *client, *other;
    ringpost_publisher *second;
    ringpost_subscriber *reliable;
    ringpost_sample sample, again;
    ringpost_closer *closer;
    void *data = NULL;
    size_t most, subscribers;
    EXPECT(RINGPOST_OK, ringpost_server_start(argv[1], NULL, NULL, NULL, NULL, &server));
    EXPECT(RINGPOST_OK, ringpost_register(argv[1], "source", ENOUGH, &client));
    EXPECT(RINGPOST_OK, ringpost_register(argv[1], "sink", ENOUGH, &other));
    EXPECT(RINGPOST_OK, ringpost_publish(client, "frames", 4096, -1, false, ENOUGH, &publisher));
    EXPECT(RINGPOST_OK, ringpost_subscribe(other, "frames", RINGPOST_LOSSY, 0, false, ENOUGH, &subscriber));

    /* Nothing is open. */
    EXPECT(RINGPOST_NOTHING_OUTSTANDING, ringpost_publisher_commit(publisher, 0));
    EXPECT(RINGPOST_NOTHING_OUTSTANDING, ringpost_publisher_abandon(publisher));
    EXPECT(RINGPOST_NOTHING_OUTSTANDING, ringpost_subscriber_check(subscriber));
    EXPECT(RINGPOST_NOTHING_OUTSTANDING, ringpost_subscriber_release(subscriber));
    EXPECT(RINGPOST_TIMED_OUT, ringpost_subscriber_view(subscriber, 0, &sample));
    EXPECT(RINGPOST_TIMED_OUT, ringpost_subscriber_view(subscriber, MILLISECOND, &sample));
    EXPECT(RINGPOST_OK, ringpost_publisher_limits(publisher, &most, &subscribers));
    EXPECT(RINGPOST_TOO_LARGE, ringpost_publisher_grant(publisher, most + 1, ENOUGH, &data));
    EXPECT(RINGPOST_NULL_POINTER, ringpost_publisher_grant(publisher, 5, ENOUGH, NULL));
    EXPECT(RINGPOST_NULL_POINTER, ringpost_subscriber_view(subscriber, 0, NULL));
    CHECK(data == NULL);

    /* A grant is open: nothing else goes on. */
    EXPECT(RINGPOST_OK, ringpost_publisher_grant(publisher, most, 0, &data));
    CHECK((uintptr_t)data % 8 == 0);
    memset(data, 'x', most);
    EXPECT(RINGPOST_IN_USE, ringpost_publisher_grant(publisher, 5, ENOUGH, &data));
    CHECK(strstr(ringpost_error_text(), "a grant or a view of the publisher is open") != NULL);
    EXPECT(RINGPOST_IN_USE, ringpost_publisher_send(publisher, "x", 1, ENOUGH));
    EXPECT(RINGPOST_IN_USE, ringpost_publisher_limits(publisher, &most, &subscribers));
    EXPECT(RINGPOST_TOO_LARGE, ringpost_publisher_commit(publisher, most + 1));
    EXPECT(RINGPOST_OK, ringpost_publisher_abandon(publisher));
    EXPECT(RINGPOST_TIMED_OUT, ringpost_subscriber_recv(subscriber, 0, &sample));

    /* Committed by another thread, shorter than granted. */
    EXPECT(RINGPOST_OK, ringpost_publisher_grant(publisher, 100, ENOUGH, &data));
    memcpy(data, "hello and more", 14);
    pthread_t thread;
    pthread_create(&thread, NULL, ends, NULL);
    pthread_join(thread, NULL);
    EXPECT(RINGPOST_NOTHING_OUTSTANDING, ringpost_publisher_commit(publisher, 5));

    /* A view is open: nothing else goes on. */
    EXPECT(RINGPOST_OK, ringpost_subscriber_view(subscriber, ENOUGH, &sample));
    CHECK(sample.len == 5 && memcmp(sample.payload, "hello", 5) == 0 && (uintptr_t)sample.payload % 8 == 0);
    CHECK(strcmp(sample.topic, "frames") == 0 && strcmp(sample.publisher.name, "source") == 0);
    CHECK(sample.sequence == 1 && sample.missed == 0);
    EXPECT(RINGPOST_IN_USE, ringpost_subscriber_view(subscriber, 0, &again));
    EXPECT(RINGPOST_IN_USE, ringpost_subscriber_recv(subscriber, 0, &again));
    EXPECT(RINGPOST_OK, ringpost_subscriber_check(subscriber));
    EXPECT(RINGPOST_OK, ringpost_subscriber_release(subscriber));
    EXPECT(RINGPOST_NOTHING_OUTSTANDING, ringpost_subscriber_release(subscriber));

    /* One that is overwritten says so, and ends all the same. */
    EXPECT(RINGPOST_OK, ringpost_publisher_send(publisher, "old", 3, ENOUGH));
    EXPECT(RINGPOST_OK, ringpost_subscriber_view(subscriber, ENOUGH, &sample));
    for (int i = 0; i < 1000; i++)
        EXPECT(RINGPOST_OK, ringpost_publisher_send(publisher, "0123456789", 10, ENOUGH));
    EXPECT(RINGPOST_OVERRUN, ringpost_subscriber_check(subscriber));
    EXPECT(RINGPOST_OVERRUN, ringpost_subscriber_release(subscriber));
    EXPECT(RINGPOST_OK, ringpost_subscriber_recv(subscriber, ENOUGH, &sample));
    CHECK(sample.len == 10 && sample.missed > 0);

    /* A forked child has no use of them, and what it frees is not its parent's. */
    EXPECT(RINGPOST_OK, ringpost_publisher_grant(publisher, 100, ENOUGH, &data));
    memcpy(data, "parents", 7);
    pid_t child = fork();
    if (child == 0) {
        if (ringpost_publisher_commit(publisher, 7) == RINGPOST_FORKED &&
            ringpost_publisher_free(publisher) == RINGPOST_OK && ringpost_subscriber_free(subscriber) == RINGPOST_OK)
            execlp("true", "true", (char *)NULL);
        _exit(1);
    }
    int ended;
    waitpid(child, &ended, 0);
    CHECK(ended == 0);
    while (ringpost_subscriber_recv(subscriber, 0, &sample) == RINGPOST_OK)
        ;
    EXPECT(RINGPOST_OK, ringpost_publisher_commit(publisher, 7));
    EXPECT(RINGPOST_OK, ringpost_subscriber_recv(subscriber, ENOUGH, &sample));
    CHECK(sample.len == 7 && memcmp(sample.payload, "parents", 7) == 0);

    /* A reliable subscriber holds its publisher up while it looks at a sample: the grant's time is over. */
    EXPECT(RINGPOST_OK, ringpost_publish(client, "jobs", 4096, 60 * SECOND, false, ENOUGH, &second));
    EXPECT(RINGPOST_OK, ringpost_subscribe(other, "jobs", RINGPOST_RELIABLE, 0, false, ENOUGH, &reliable));
    EXPECT(RINGPOST_OK, ringpost_publisher_send(second, "job", 3, ENOUGH));
    EXPECT(RINGPOST_OK, ringpost_subscriber_view(reliable, ENOUGH, &sample));
    ringpost_status status;
    int sent = 1;
    while ((status = ringpost_publisher_send(second, "job", 3, 0)) == RINGPOST_OK)
        sent++;
    CHECK(status == RINGPOST_FULL && sent > 10);
    EXPECT(RINGPOST_TIMED_OUT, ringpost_publisher_grant(second, 3, MILLISECOND, &data));
    EXPECT(RINGPOST_FULL, ringpost_publisher_grant(second, 3, 0, &data));
    EXPECT(RINGPOST_OK, ringpost_subscriber_release(reliable));
    for (int i = 1; i < sent; i++)
        EXPECT(RINGPOST_OK, ringpost_subscriber_recv(reliable, 0, &sample));
    EXPECT(RINGPOST_OK, ringpost_publisher_grant(second, 3, 0, &data));
    EXPECT(RINGPOST_OK, ringpost_publisher_abandon(second));

    /* Freed while they are open. */
    EXPECT(RINGPOST_OK, ringpost_publisher_send(publisher, "last", 4, ENOUGH));
    EXPECT(RINGPOST_OK, ringpost_subscriber_view(subscriber, ENOUGH, &sample));
    EXPECT(RINGPOST_OK, ringpost_subscriber_closer(reliable, &closer));
    EXPECT(RINGPOST_OK, ringpost_publisher_grant(publisher, 100, ENOUGH, &data));
    EXPECT(RINGPOST_OK, ringpost_publisher_free(publisher));
    CHECK(memcmp(sample.payload, "last", 4) == 0); /* still mapped */
    EXPECT(RINGPOST_OK, ringpost_subscriber_free(subscriber));
    EXPECT(RINGPOST_FREED_HANDLE, ringpost_subscriber_release(subscriber));
    EXPECT(RINGPOST_FREED_HANDLE, ringpost_publisher_commit(publisher, 0));

    /* The end. */
    EXPECT(RINGPOST_OK, ringpost_closer_close(closer));
    EXPECT(RINGPOST_DISCONNECTED, ringpost_subscriber_view(reliable, -1, &sample));
    EXPECT(RINGPOST_OK, ringpost_closer_free(closer));
    EXPECT(RINGPOST_OK, ringpost_subscriber_free(reliable));
    EXPECT(RINGPOST_OK, ringpost_client_unregister(client, ENOUGH));
    EXPECT(RINGPOST_DISCONNECTED, ringpost_publisher_grant(second, 3, -1, &data));
    EXPECT(RINGPOST_OK, ringpost_publisher_free(second));
    EXPECT(RINGPOST_OK, ringpost_client_free(other));
    EXPECT(RINGPOST_OK, ringpost_server_stop(server, ENOUGH, NULL));
    puts("in place: as the header says");
    return 0;
}

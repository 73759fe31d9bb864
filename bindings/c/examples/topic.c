/* A topic: "source" publishes prices, "watcher" subscribes to all of them.
 *
 *     topic SOCKET */
#include "common.h"

#include <string.h>

struct price {
    double bid, ask;
};

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s SOCKET\n", argv[0]);
        return 2;
    }
    ringpost_server *server;
    ringpost_client *source, *watcher;
    ringpost_publisher *prices;
    ringpost_subscriber *all;
    need(ringpost_server_start(argv[1], NULL, NULL, NULL, NULL, &server), "start");
    need(ringpost_register(argv[1], "source", SECOND, &source), "register");
    need(ringpost_register(argv[1], "watcher", SECOND, &watcher), "register");
    need(ringpost_publish(source, "prices/AAPL", 0, -1, false, SECOND, &prices), "publish");
    need(ringpost_subscribe(watcher, "prices/*", RINGPOST_LOSSY, 0, false, SECOND, &all), "subscribe");

    struct price price = {187.42, 187.45};
    need(ringpost_publisher_send(prices, &price, sizeof price, SECOND), "send");
    /* The same, written in its place in the ring. */
    void *place;
    need(ringpost_publisher_grant(prices, sizeof price, SECOND, &place), "grant");
    memcpy(place, &price, sizeof price);
    need(ringpost_publisher_commit(prices, sizeof price), "commit");

    for (int i = 0; i < 2; i++) {
        ringpost_sample sample;
        struct price received;
        need(ringpost_subscriber_recv(all, SECOND, &sample), "receive");
        if (sample.len != sizeof received || strcmp(sample.publisher.name, "source") != 0)
            return 1;
        memcpy(&received, sample.payload, sizeof received);
        printf("%s: %.2f %.2f (missed %llu)\n", sample.topic, received.bid, received.ask,
               (unsigned long long)sample.missed);
        if (received.bid != price.bid || received.ask != price.ask || sample.missed != 0)
            return 1;
    }
    ringpost_sample sample;
    if (ringpost_subscriber_recv(all, 0, &sample) != RINGPOST_TIMED_OUT)
        return 1;
    if (ringpost_subscribe(watcher, "x", 9, 0, false, SECOND, &all) != RINGPOST_INVALID_ARGUMENT)
        return 1;

    need(ringpost_publisher_free(prices), "free");
    need(ringpost_subscriber_free(all), "free");
    need(ringpost_client_unregister(source, SECOND), "unregister");
    need(ringpost_client_unregister(watcher, SECOND), "unregister");
    need(ringpost_server_stop(server, -1, NULL), "stop");
    return 0;
}

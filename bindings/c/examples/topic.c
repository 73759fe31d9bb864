/* A topic: "source" publishes prices, "watcher" subscribes to all of them. Then a picture, which is written into the
 * ring and read there, without a copy on either side.
 *
 *     topic SOCKET */
#include "common.h"

#include <string.h>

#define WIDTH 640
#define HEIGHT 480

struct price {
    double bid, ask;
};

/* The light of a picture of WIDTH times HEIGHT bytes. */
static unsigned long light(const unsigned char *picture) {
    unsigned long sum = 0;
    for (int i = 0; i < WIDTH * HEIGHT; i++)
        sum += picture[i];
    return sum;
}

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
    need(ringpost_register(argv[1], "source", LIMIT, &source), "register");
    need(ringpost_register(argv[1], "watcher", LIMIT, &watcher), "register");
    need(ringpost_publish(source, "prices/AAPL", 0, -1, false, LIMIT, &prices), "publish");
    need(ringpost_subscribe(watcher, "prices/*", RINGPOST_LOSSY, 0, false, LIMIT, &all), "subscribe");

    struct price price = {187.42, 187.45};
    need(ringpost_publisher_send(prices, &price, sizeof price, LIMIT), "send");
    ringpost_sample sample;
    struct price received;
    need(ringpost_subscriber_recv(all, LIMIT, &sample), "receive");
    if (sample.len != sizeof received || strcmp(sample.publisher.name, "source") != 0)
        return 1;
    memcpy(&received, sample.payload, sizeof received);
    printf("%s: %.2f %.2f (missed %llu)\n", sample.topic, received.bid, received.ask,
           (unsigned long long)sample.missed);
    if (received.ask != price.ask || ringpost_subscriber_recv(all, 0, &sample) != RINGPOST_TIMED_OUT)
        return 1;

    /* In place. Whoever reads there looks afterwards whether the publisher has written over it meanwhile. */
    ringpost_publisher *pictures;
    ringpost_subscriber *left;
    void *picture;
    need(ringpost_publish(source, "pictures/left", 4 << 20, -1, false, LIMIT, &pictures), "publish");
    need(ringpost_subscribe(watcher, "pictures/left", RINGPOST_LATEST, 0, false, LIMIT, &left), "subscribe");
    need(ringpost_publisher_grant(pictures, WIDTH * HEIGHT, LIMIT, &picture), "grant");
    memset(picture, 7, WIDTH * HEIGHT);
    need(ringpost_publisher_commit(pictures, WIDTH * HEIGHT), "commit");

    need(ringpost_subscriber_view(left, LIMIT, &sample), "view");
    if (sample.len != WIDTH * HEIGHT)
        return 1;
    unsigned long sum = light(sample.payload);
    need(ringpost_subscriber_release(left), "release"); /* RINGPOST_OVERRUN: it was not the picture, take the next */
    printf("light: %lu\n", sum);
    if (sum != 7ul * WIDTH * HEIGHT)
        return 1;

    need(ringpost_publisher_free(pictures), "free");
    need(ringpost_subscriber_free(left), "free");

    need(ringpost_publisher_free(prices), "free");
    need(ringpost_subscriber_free(all), "free");
    need(ringpost_client_unregister(source, LIMIT), "unregister");
    need(ringpost_client_unregister(watcher, LIMIT), "unregister");
    need(ringpost_server_stop(server, LIMIT, NULL), "stop");
    return 0;
}

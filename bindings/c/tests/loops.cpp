// Each end of C++ in an event loop: look, arm, and wait only if arming said true.
//
//     loops SOCKET
#include "check.hpp"

#include <poll.h>

#include <latch>

using namespace std::chrono_literals;
using ringpost::at_once;
using ringpost::bytes;
using ringpost::client;

static void wait_by(int fd) {
    pollfd waits{.fd = fd, .events = POLLIN, .revents = 0};
    CHECK(poll(&waits, 1, 20000) == 1);
}

// Waits in poll until `look` finds something.
template <typename End, typename Look> static void until(End &end, Look look) {
    const int fd = end.readiness();
    while (!look())
        if (end.arm()) wait_by(fd);
}

static void links(const char *path) {
    auto alice = client::open(path, "alice");
    auto listener = alice.listen();
    std::thread caller([&] {
        auto bob = client::open(path, "bob");
        auto link = bob.connect("alice", 20s, true);
        for (int number = 0; number < 20; number++) {
            CHECK(link.submit(bytes::of(number)) && link.post("nothing comes of it"));
            std::optional<bytes> response;
            until(link, [&] { return (response = link.response(at_once)).has_value(); });
            CHECK(response->as<int>() == 2 * number);
        }
    });
    std::optional<ringpost::incoming> incoming;
    until(listener, [&] { return (incoming = listener.accept(at_once)).has_value(); });
    auto responder = incoming->accept(true);
    CHECK(incoming->get() == nullptr && responder.peer().name == std::string_view("bob"));
    int served = 0;
    until(responder, [&] {
        return !responder.serve_ready([&](const ringpost::request &request, ringpost::response &response) {
            if (!request.wants_response()) return;
            served++;
            response.write(bytes::of(2 * request.data().as<int>().value()));
        });
    });
    caller.join();
    CHECK(served == 20);
}

static void topics(const char *path) {
    auto alice = client::open(path, "alice");
    auto publisher = alice.publish("a", {.ring_size = 16 << 10, .reliable = 20s, .arms = true});
    auto subscriber = alice.subscribe("a", {.policy = RINGPOST_RELIABLE, .arms = true});
    CHECK(eventually([&] { return publisher.subscribers() == 1; }));
    std::latch first_full(1);
    std::thread reader([&] {
        first_full.wait();
        for (int number = 0; number < 2000; number++) {
            std::optional<ringpost::view> view;
            until(subscriber, [&] { return (view = subscriber.view(at_once)).has_value(); });
            CHECK(view->data().size() == 64 && view->data().first(4)[0] == std::byte(number) && view->release());
        }
    });
    int full = 0;
    for (int number = 0; number < 2000; number++) {
        const std::vector<char> sample(64, static_cast<char>(number));
        until(publisher, [&] {
            const bool fits = publisher.try_send(sample);
            if (!fits && full++ == 0) first_full.count_down();
            return fits;
        });
    }
    reader.join();
    CHECK(full > 0);

    // Who comes late gets as much of the past as it asked for.
    auto past = alice.subscribe("a", {.policy = RINGPOST_LATEST, .history = 3});
    CHECK(past.recv(20s).has_value());
}

static void messages(const char *path) {
    auto alice = client::open(path, "alice");
    const int responses = alice.readiness(), inbox = alice.inbox_readiness();
    CHECK(responses != inbox && responses == alice.readiness());
    std::thread receiver([&] {
        for (int got = 0; got < 100;) {
            if (alice.recv(at_once)) got++;
            else if (alice.inbox_arm()) wait_by(inbox);
        }
    });
    for (int number = 0; number < 100; number++) {
        CHECK(alice.submit(bytes::of(number)));
        std::optional<bytes> response;
        while (!(response = alice.response(at_once)))
            if (alice.arm()) wait_by(responses);
        CHECK(response->as<int>() == number);
        alice.send("alice", "a note", 20s);
    }
    receiver.join();
}

int main(int argc, char **argv) try {
    if (argc != 2) return 2;
    auto server = ringpost::server::start(argv[1], {.max_clients = 3, .ring_size = 64 << 10, .grace = 1s});
    links(argv[1]);
    topics(argv[1]);
    messages(argv[1]);
    CHECK(server.stop(20s).registered == 4);
    std::puts("loops: each end came to its turn");
} catch (const std::exception &failure) {
    std::fprintf(stderr, "unexpected: %s\n", failure.what());
    return 1;
}

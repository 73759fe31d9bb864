// Who owns what in C++: moves, ends in any order, exceptions out of services, grants and views that outlive their ends.
//
//     ownership SOCKET
#include "check.hpp"

#include <array>
#include <atomic>
#include <latch>
#include <set>
#include <thread>
#include <unordered_set>

using namespace std::chrono_literals;
using ringpost::at_once;
using ringpost::bytes;
using ringpost::client;

static std::string path;

// Whether `what` fails with a code.
template <typename What> static bool fails(ringpost_status code, What what) {
    try {
        what();
    } catch (const ringpost::error &failure) {
        if (failure.code() != code) std::fprintf(stderr, "code %d: %s\n", failure.code(), failure.what());
        return failure.code() == code && !std::string_view(failure.what()).empty();
    }
    return false;
}

// Counts its copies that are there.
struct counted {
    std::atomic<int> *there;
    explicit counted(std::atomic<int> &number) : there(&number) { ++*there; }
    counted(const counted &other) : there(other.there) { ++*there; }
    ~counted() { --*there; }
    counted &operator=(const counted &) = delete;
};

template <typename T> constexpr bool only_moves =
    std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T> && !std::is_copy_constructible_v<T> &&
    !std::is_copy_assignable_v<T>;
static_assert(only_moves<client> && only_moves<ringpost::server> && only_moves<ringpost::link>);
static_assert(only_moves<ringpost::listener> && only_moves<ringpost::incoming> && only_moves<ringpost::responder>);
static_assert(only_moves<ringpost::serving> && only_moves<ringpost::publisher> && only_moves<ringpost::subscriber>);
static_assert(only_moves<ringpost::closer> && std::is_nothrow_move_constructible_v<ringpost::grant>);
static_assert(!std::is_copy_constructible_v<ringpost::grant> && !std::is_copy_constructible_v<ringpost::view>);

// Several threads call a service at once, so it must be callable as const. It may own what only moves.
using asked = const ringpost::request &;
using answer = ringpost::response &;
static_assert(ringpost::shared_service<decltype([](asked, answer) {})>);
static_assert(!ringpost::shared_service<decltype([own = 0](asked, answer) mutable { ++own; })>);
static_assert(ringpost::service<decltype([own = 0](asked, answer) mutable { ++own; })>);
static_assert(!ringpost::service<decltype([](int) {})>);

static_assert(ringpost::timeout(-5s).ns() == 0 && ringpost::timeout(1500us).ns() == 1'500'000);
static_assert(ringpost::timeout(std::chrono::hours::max()).ns() == INT64_MAX && ringpost::forever.ns() == -1);
static_assert(ringpost::timeout(std::chrono::duration<double>(0.25)).ns() == 250'000'000);
static_assert(!std::convertible_to<int, ringpost::timeout>);

static void values() {
    const auto now = std::chrono::steady_clock::now();
    CHECK(ringpost::timeout(now - 1h).ns() == 0);
    CHECK(ringpost::timeout(std::chrono::steady_clock::time_point::min()).ns() == 0);
    CHECK(ringpost::timeout(now + 1h).ns() > 0 && ringpost::timeout(now + 1h).ns() <= std::chrono::nanoseconds(1h).count());
    CHECK(ringpost::timeout(std::chrono::steady_clock::time_point::max()).ns() > 0);

    const char full[3] = {'a', 'b', 'c'}; // no NUL
    CHECK(bytes("abc").size() == 3 && bytes(full).size() == 3 && bytes(std::string("ab\0c", 4)).size() == 4);
    CHECK(bytes(std::vector<double>(3)).size() == 24 && bytes(std::array<std::byte, 2>()).size() == 2 && bytes().empty());
    CHECK(bytes::of(7).as<int>() == 7 && !bytes::of(7).as<char>() && !bytes().as<int>());
    CHECK(bytes("abc").text() == "abc" && bytes().text().empty());

    const ringpost_key one{{1}}, two{{2}};
    CHECK(one == one && one != two && one < two && std::set{two, one}.begin()->bytes[0] == 1);
    CHECK(std::unordered_set<ringpost_key>({one, two, one}).size() == 2);
}

static void moves() {
    auto server = ringpost::server::start(path);
    auto alice = client::open(path, "alice");
    client other = std::move(alice);
    CHECK(other.call("x", 20s).text() == "x");
    CHECK(fails(RINGPOST_NULL_POINTER, [&] { alice.call("x", 20s); })); // NOLINT: empty
    CHECK(fails(RINGPOST_NULL_POINTER, [&] { alice.unregister(); }));

    // What is assigned to ends what it had.
    other = client::open(path, "bob");
    alice = client::open(path, "alice");
    CHECK(alice.list().size() == 2);
    client &same = alice;
    alice = std::move(same);
    CHECK(alice.look_up("bob") == other.key() && !alice.look_up("carol"));
    CHECK(alice.look_up(ringpost::to_string(other.key())) == other.key());
    alice.send(ringpost::to_string(other.key()), "by the text of the key");
    CHECK(other.recv(20s)->sender == alice.key() && !other.recv(at_once) && !other.recv(-1s));

    alice.unregister();
    CHECK(fails(RINGPOST_NULL_POINTER, [&] { alice.unregister(); }));
    CHECK(fails(RINGPOST_NAME_TAKEN, [&] { client::open(path, "bob"); }));
    CHECK(server.clients() == 1);

    // Handles come from C and go there.
    ringpost_client *raw = other.release();
    CHECK(client(raw).call("y").text() == "y");
    CHECK(fails(RINGPOST_FREED_HANDLE, [&] { client(raw).ping(); }));
    CHECK(server.stop().registered == 3);
    CHECK(fails(RINGPOST_NULL_POINTER, [&] { server.stop(); }));
}

static void services() {
    std::atomic<int> there = 0;
    CHECK(fails(RINGPOST_SYSTEM, [&] {
        ringpost::server::start("/nowhere/at/all", [kept = counted(there)](asked, answer) {});
    }));
    CHECK(there == 0);
    auto server = ringpost::server::start(
        path, [kept = counted(there), only_moves = std::make_unique<int>(7)](asked request, answer response) {
            const auto what = request.data().text();
            if (what == "std") throw std::runtime_error("out of paper");
            if (what == "int") throw 7;
            if (what == "not UTF-8") throw std::runtime_error("\xff");
            if (what == "large") response.write(std::vector<char>(response.remaining() + 1));
            if (what == "says") response.fail("as it says");
            response.write(request.peer().name);
            response.write(bytes::of(*only_moves));
        },
        {.grace = 60s});
    CHECK(there == 1);
    auto alice = client::open(path, "alice");
    const auto says = [&](std::string_view what, ringpost_status code, std::string_view text) {
        try {
            alice.call(what, 20s);
        } catch (const ringpost::error &failure) {
            return failure.code() == code && (text.empty() || failure.what() == text) && failure.may_have_executed();
        }
        return false;
    };
    CHECK(says("std", RINGPOST_SERVICE_FAILED, "out of paper"));
    CHECK(says("int", RINGPOST_SERVICE_FAILED, "the service threw something that is no std::exception"));
    CHECK(says("not UTF-8", RINGPOST_SERVICE_FAILED, "the service failed"));
    CHECK(says("says", RINGPOST_SERVICE_FAILED, "as it says"));
    CHECK(says("large", RINGPOST_RESPONSE_TOO_LARGE, ""));
    CHECK(alice.call("", 20s).size() == 5 + sizeof(int));

    // The limit is the time that is left, and the response is still to come.
    CHECK(fails(RINGPOST_NOTHING_OUTSTANDING, [&] { alice.response(at_once); }));
    CHECK(alice.submit("") && alice.outstanding() == 1 && alice.response(std::chrono::steady_clock::now() + 20s));
    const auto longest = alice.limits();
    CHECK(fails(RINGPOST_TOO_LARGE, [&] { alice.call(std::vector<char>(longest.call + 1)); }));
    server.stop();
    CHECK(there == 0);
    CHECK(fails(RINGPOST_DISCONNECTED, [&] { alice.serve([kept = counted(there)](asked, answer) {}); }));
    CHECK(there == 0);
}

static void links() {
    auto server = ringpost::server::start(path);
    auto sums = client::open(path, "sums");
    auto asker = client::open(path, "asker");
    CHECK(fails(RINGPOST_NOT_SERVING, [&] { asker.connect("sums"); }));

    std::atomic<int> there = 0;
    auto serving = sums.serve([kept = counted(there)](asked request, answer response) {
        if (request.wants_response()) response.write(request.data());
    });
    auto link = asker.connect("sums");
    CHECK(link.post("nobody answers") && link.call("x", 20s).text() == "x" && there == 1);
    auto moved = std::move(link);
    CHECK(moved.call("y", 20s).text() == "y" && fails(RINGPOST_NULL_POINTER, [&] { link.call("x"); })); // NOLINT
    serving.stop();
    CHECK(there == 0 && fails(RINGPOST_NULL_POINTER, [&] { serving.stop(); }));
    CHECK(fails(RINGPOST_NOT_SENT, [&] { moved.call("x"); }));

    // By hand: one is refused with a reason, one by a destructor, and one is served by a service that counts in itself.
    auto listener = sums.listen();
    CHECK(!listener.accept(at_once));
    const auto refused = [&](std::string_view text, ringpost_status code) {
        std::thread asks([&] {
            CHECK(fails(code, [&] { asker.connect("sums"); }));
            CHECK(std::string_view(ringpost_error_text()).find(text) != std::string_view::npos);
        });
        auto incoming = listener.accept();
        CHECK(incoming && incoming->peer().name == std::string_view("asker"));
        if (!text.empty()) incoming->refuse(std::string(text));
        incoming.reset();
        asks.join();
    };
    refused("not on a Sunday", RINGPOST_REFUSED);
    refused("", RINGPOST_GONE);
    std::thread serves([&] {
        int calls = 0;
        listener.accept()->accept().serve([&, own = 0](asked, answer response) mutable {
            calls = ++own;
            response.write(bytes::of(own));
        });
        CHECK(calls == 2);
    });
    {
        auto again = asker.connect("sums");
        CHECK(again.call("", 20s).as<int>() == 1 && again.call("", 20s).as<int>() == 2);
    }
    serves.join();

    // A closer, made beforehand, ends the wait of another thread.
    const auto closer = listener.make_closer();
    std::thread accepts([&] { CHECK(fails(RINGPOST_DISCONNECTED, [&] { listener.accept(); })); });
    closer.close();
    accepts.join();
}

static void closers_and_threads() {
    auto server = ringpost::server::start(path);
    auto alice = client::open(path, "alice");
    auto closer = alice.make_closer();
    // One thread waits for messages while another calls.
    std::latch waits(1);
    std::thread receiver([&] {
        CHECK(alice.recv(20s)->data().text() == "a note");
        waits.count_down();
        CHECK(fails(RINGPOST_DISCONNECTED, [&] { alice.recv(); }));
    });
    CHECK(alice.call("x", 20s).text() == "x");
    alice.send("alice", "a note");
    waits.wait();
    CHECK(alice.call("x", 20s).text() == "x");
    closer.close();
    receiver.join();
    { const client gone = std::move(alice); }
    closer.close(); // also after its client is gone
}

static void topics() {
    auto server = ringpost::server::start(path);
    auto source = client::open(path, "source");
    auto watcher = client::open(path, "watcher");
    auto publisher = source.publish("a/b", {.ring_size = 64 << 10});
    auto subscriber = watcher.subscribe("a/*", {.history = 2});
    CHECK(!subscriber.view(at_once) && !subscriber.recv(at_once));
    CHECK(eventually([&] { return publisher.subscribers() == 1; }));

    // What is not committed is not published.
    {
        auto abandoned = publisher.grant(8);
        CHECK(abandoned.data().size() == 8 && fails(RINGPOST_IN_USE, [&] { publisher.send("x"); }));
        auto moved = std::move(abandoned);
        CHECK(abandoned.data().empty()); // NOLINT: empty
    }
    CHECK(publisher.try_send("first"));
    auto grant = publisher.grant(8);
    CHECK(fails(RINGPOST_TOO_LARGE, [&] { grant.commit(9); }));
    std::memcpy(grant.data().data(), "secondly", 8);
    grant.commit(6);
    CHECK(fails(RINGPOST_NULL_POINTER, [&] { grant.commit(0); }));
    CHECK(fails(RINGPOST_TOO_LARGE, [&] { publisher.grant(publisher.max_sample() + 1); }));

    auto view = subscriber.view(20s);
    CHECK(view && view->data().text() == "first" && (*view)->topic == std::string_view("a/b") && view->intact());
    CHECK(fails(RINGPOST_IN_USE, [&] { subscriber.recv(at_once); }));
    CHECK(view->release() && view->data().empty());
    CHECK(fails(RINGPOST_NULL_POINTER, [&] { static_cast<void>(view->release()); }));
    CHECK(subscriber.recv(20s)->data().text() == "second" && !subscriber.recv(at_once));

    // What was read is told apart from what the publisher has written over.
    publisher.send("third");
    auto late = subscriber.view(20s);
    CHECK(late && late->intact());
    for (int i = 0; i < 3000; i++) publisher.send("0123456789012345678901234567890123456789");
    CHECK(!late->intact() && !late->release());
    CHECK(subscriber.recv(20s)->missed > 0);

    // A view and a grant keep alive what they are of.
    publisher.send("last");
    while ((late = subscriber.view(20s)).value().data().text() != "last") late.reset();
    { auto gone = std::move(subscriber); }
    { auto gone = std::move(watcher); }
    auto open = publisher.grant(4);
    { auto gone = std::move(publisher); }
    CHECK(late->data().text() == "last" && late->release());
    std::ranges::fill(open.data(), std::byte{1});
    open.commit();
}

int main(int argc, char **argv) try {
    if (argc != 2) return 2;
    path = argv[1];
    values();
    moves();
    services();
    links();
    closers_and_threads();
    topics();
    std::puts("ownership: as it is written");
} catch (const std::exception &failure) {
    std::fprintf(stderr, "unexpected: %s\n", failure.what());
    return 1;
}

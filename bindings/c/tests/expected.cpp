// Failures as values: std::expected, in a program without exceptions.
//
//     expected SOCKET
#define RINGPOST_EXPECTED 1
#include "check.hpp"

#include <thread>

using namespace std::chrono_literals;
using ringpost::at_once;

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    const char *path = argv[1];
    const auto none = ringpost::client::open(path, "alice");
    CHECK(!none && none.error().code() == RINGPOST_NO_SERVER && none.error().what() != std::string());

    auto server = ringpost::server::start(path, [](const auto &request, auto &response) -> ringpost::result<void> {
        if (request.data().empty()) response.fail("there is nothing to greet");
        if (request.data().text() == "much") return response.write(std::vector<char>(response.remaining() + 1));
        if (auto done = response.write("hello "); !done) return done;
        return response.write(request.data());
    });
    auto alice = ringpost::client::open(path, "alice");
    CHECK(server && alice);
    CHECK(alice->call("world", 20s)->text() == "hello world");
    const auto failed = alice->call("", 20s);
    CHECK(!failed && failed.error().code() == RINGPOST_SERVICE_FAILED && failed.error().may_have_executed());
    CHECK(failed.error().what() == std::string("there is nothing to greet"));
    CHECK(alice->call("much", 20s).error().code() == RINGPOST_RESPONSE_TOO_LARGE);

    // Nothing in time, nobody, and no room are values.
    CHECK(alice->recv(at_once) && !*alice->recv(at_once) && alice->look_up("nobody") && !*alice->look_up("nobody"));
    CHECK(alice->send("nobody", "x").error().code() == RINGPOST_NOT_FOUND);
    CHECK(alice->send(*alice->key(), "a note"));
    CHECK((**alice->recv(20s)).data().text() == "a note");
    int sent = 0;
    while (*alice->try_send("alice", "0123456789")) sent++;
    CHECK(sent > 100 && alice->list()->size() == 1);

    // A service of a link that returns nothing, and one whose client is gone.
    auto serving = alice->serve([](const auto &request, auto &response) { CHECK(response.write(request.data())); });
    auto bob = ringpost::client::open(path, "bob");
    auto link = bob->connect("alice");
    CHECK(serving && link && link->call("x", 20s)->text() == "x" && link->submit("y") && *link->submit("z"));
    CHECK((**link->response(20s)).text() == "y" && serving->stop() && !link->call("x"));

    auto publisher = bob->publish("a");
    auto subscriber = alice->subscribe("a");
    auto grant = publisher->grant(3);
    CHECK(grant && publisher->send("x").error().code() == RINGPOST_IN_USE);
    std::memcpy(grant->data().data(), "abc", 3);
    CHECK(grant->commit() && grant->commit().error().code() == RINGPOST_NULL_POINTER);
    auto view = *subscriber->view(20s);
    CHECK(view && view->data().text() == "abc" && *view->release() && !*subscriber->view(at_once));

    ringpost::client moved = std::move(*alice);
    CHECK(alice->ping().error().code() == RINGPOST_NULL_POINTER && moved.ping() && moved.unregister());
    CHECK(server->stop()->registered == 2);
    CHECK(alice->serve([](const auto &, auto &) {}).error().code() == RINGPOST_NULL_POINTER);
    CHECK(bob->serve([](const auto &, auto &) {}).error().code() == RINGPOST_DISCONNECTED);
    std::puts("expected: as it is written");
}

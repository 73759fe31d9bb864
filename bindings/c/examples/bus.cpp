// The examples in C++, in one program: a server with a service, a client with a call and a message, a link, a topic.
//
//     bus SOCKET
#include <ringpost.hpp>

#include <iostream>

using namespace std::chrono_literals;
using ringpost::as_data;
using ringpost::as_text;

static void need(bool holds, const char *what) {
    if (!holds) throw std::logic_error(what);
}

static int run(const std::string &path) {
    ringpost::server server(path, [](const ringpost::request &request, ringpost::response &response) {
        if (request.payload().empty()) throw std::invalid_argument("there is nothing to greet");
        response.write(as_data("hello "));
        response.write(request.payload());
    });
    ringpost::client alice(path, "alice");
    std::cout << as_text(alice.call(as_data("world"), 1s)) << '\n';
    need(as_text(alice.call(as_data("world"), 1s)) == "hello world", "the call");
    try {
        alice.call({}, 1s);
        need(false, "an error");
    } catch (const ringpost::error &failure) {
        need(failure.code() == RINGPOST_SERVICE_FAILED && failure.what() == std::string("there is nothing to greet"),
             "its code and text");
    }

    alice.send(alice.key(), as_data("a note to myself"));
    const auto note = alice.recv(1s);
    need(note && as_text(note->data()) == "a note to myself", "the message");
    need(!alice.recv(0s) && !alice.look_up("nobody") && alice.look_up("alice"), "nothing more, and nobody else");

    ringpost::client bob(path, "bob");
    const auto serving = bob.serve([](const ringpost::request &request, ringpost::response &response) {
        response.write(as_data(request.peer().name));
    });
    auto link = alice.connect("bob", 1s);
    need(as_text(link.call(as_data("who am I?"), 1s)) == "alice", "the link");

    auto prices = bob.publish("prices/AAPL");
    auto all = alice.subscribe("prices/*");
    prices.send(as_data("187.42"));
    const auto sample = all.recv(1s);
    need(sample && as_text(sample->data()) == "187.42" && sample->topic == std::string("prices/AAPL"), "the sample");

    // A client that was moved from is empty.
    ringpost::client moved = std::move(alice);
    try {
        alice.call(as_data("x"), 1s); // NOLINT: that is what is tried
        need(false, "an error");
    } catch (const ringpost::error &failure) {
        need(failure.code() == RINGPOST_NULL_POINTER, "the code of an empty client");
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        std::cerr << "usage: " << argv[0] << " SOCKET\n";
        return 2;
    }
    try {
        return run(argv[1]);
    } catch (const std::exception &failure) {
        std::cerr << failure.what() << '\n';
        return 1;
    }
}

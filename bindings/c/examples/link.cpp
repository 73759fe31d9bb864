// A link: "sums" serves on threads of its own, "asker" connects to it by name and asks. Then "sums" lets clients in by
// hand, and serves one on its own thread. All of them, and the server, are in this one program; usually they are three.
//
//     link SOCKET
#include <ringpost.hpp>

#include <array>
#include <iostream>
#include <thread>

using namespace std::chrono_literals;

// Adds the numbers of the request.
static void sum(const ringpost::request &request, ringpost::response &response) {
    std::uint64_t total = 0, number = 0;
    const ringpost::bytes data = request.data();
    if (data.size() % sizeof number != 0) throw std::invalid_argument("send whole numbers");
    for (std::size_t at = 0; at < data.size(); at += sizeof number) {
        std::memcpy(&number, data.data() + at, sizeof number); // it may not be aligned
        total += number;
    }
    response.write(ringpost::bytes::of(total));
}

int main(int argc, char **argv) try {
    if (argc != 2) {
        std::cerr << "usage: " << argv[0] << " SOCKET\n";
        return 2;
    }
    auto server = ringpost::server::start(argv[1]);
    auto sums = ringpost::client::open(argv[1], "sums");
    auto asker = ringpost::client::open(argv[1], "asker");
    auto serving = sums.serve(sum);
    auto link = asker.connect("sums");

    const std::array<std::uint64_t, 3> numbers = {1, 20, 300};
    const auto total = link.call(numbers, 10s).as<std::uint64_t>();
    if (total != 321u || link.peer().name != std::string("sums")) return 1;
    std::cout << "the sum is " << *total << '\n';

    // Two calls under way at once, and one that fails.
    if (!link.submit(std::span(numbers).first(1)) || !link.submit(std::span(numbers).last(2))) return 1;
    if (link.response(10s)->as<std::uint64_t>() != 1u || link.response(10s)->as<std::uint64_t>() != 320u) return 1;
    try {
        link.call("x", 10s);
        return 1;
    } catch (const ringpost::error &failure) {
        std::cout << "a call failed: " << failure.what() << '\n';
    }
    serving.stop();

    // By hand: "sums" sees who wants to come in, and serves on a thread of its own.
    auto listener = sums.listen();
    std::jthread other([&] {
        auto again = asker.connect("sums");
        std::cout << "the sum is " << *again.call(numbers, 10s).as<std::uint64_t>() << '\n';
    });
    auto incoming = listener.accept(10s);
    if (!incoming || incoming->peer().name != std::string("asker")) return 1;
    incoming->accept().serve(sum); // until the link ends
} catch (const std::exception &failure) {
    std::cerr << failure.what() << '\n';
    return 1;
}

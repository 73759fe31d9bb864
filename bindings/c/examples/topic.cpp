// A topic: "source" publishes prices, "watcher" subscribes to all of them. Then a picture, which is written into the
// ring and read there, without a copy on either side.
//
//     topic SOCKET
#include <ringpost.hpp>

#include <algorithm>
#include <iostream>
#include <numeric>

using namespace std::chrono_literals;

struct price {
    double bid, ask;
};

int main(int argc, char **argv) try {
    if (argc != 2) {
        std::cerr << "usage: " << argv[0] << " SOCKET\n";
        return 2;
    }
    auto server = ringpost::server::start(argv[1]);
    auto source = ringpost::client::open(argv[1], "source");
    auto watcher = ringpost::client::open(argv[1], "watcher");
    auto prices = source.publish("prices/AAPL");
    auto all = watcher.subscribe("prices/*");

    prices.send(ringpost::bytes::of(price{187.42, 187.45}));
    const auto sample = all.recv(10s);
    const auto received = sample ? sample->data().as<price>() : std::nullopt;
    if (!received || received->ask != 187.45) return 1;
    std::cout << sample->topic << ": " << received->bid << ' ' << received->ask << " (missed " << sample->missed << ")\n";

    // In place. Whoever reads there looks afterwards whether the publisher has written over it meanwhile.
    const std::size_t size = std::size_t{640} * 480;
    auto pictures = source.publish("pictures/left", {.ring_size = 4 << 20});
    auto left = watcher.subscribe("pictures/left", {.policy = RINGPOST_LATEST});
    auto grant = pictures.grant(size);
    std::ranges::fill(grant.data(), std::byte{7});
    grant.commit();

    auto view = left.view(10s);
    if (!view || view->data().size() != size) return 1;
    const auto light = std::accumulate(view->data().begin(), view->data().end(), 0ul,
                                       [](unsigned long sum, std::byte dot) { return sum + std::to_integer<unsigned>(dot); });
    if (!view->release()) return 1; // what was read was not the picture: take the next one
    std::cout << "light: " << light << '\n';
    return light == 7 * size ? 0 : 1;
} catch (const std::exception &failure) {
    std::cerr << failure.what() << '\n';
    return 1;
}

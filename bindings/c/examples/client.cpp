// A client: registers a name, gets a key, calls the server, sends itself a message by its key, and unregisters.
//
//     client SOCKET NAME
#include <ringpost.hpp>

#include <iostream>

using namespace std::chrono_literals;

int main(int argc, char **argv) try {
    if (argc != 3) {
        std::cerr << "usage: " << argv[0] << " SOCKET NAME\n";
        return 2;
    }
    auto client = ringpost::client::open(argv[1], argv[2]);
    const auto key = client.look_up(argv[2]);
    if (!key || *key != client.key()) return 1;
    std::cout << argv[2] << " has the key " << ringpost::to_string(*key) << '\n';

    std::cout << "the server says " << client.call("hello", 10s).text() << '\n';

    client.send(*key, "a note to myself", 10s);
    const auto message = client.recv(10s);
    if (!message) return 1;
    std::cout << message->sender_name << " sent: " << message->data().text() << '\n';

    client.unregister();
} catch (const ringpost::error &failure) {
    std::cerr << failure.what() << " (code " << failure.code() << ")\n";
    return 1;
}

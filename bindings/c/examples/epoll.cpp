// An event loop: "alice" waits by epoll for messages and responses of the bus, and for a pipe. Her only wait is
// epoll_wait.
//
//     epoll SOCKET
#include <ringpost.hpp>

#include <iostream>
#include <system_error>
#include <thread>

#include <sys/epoll.h>
#include <unistd.h>

static void need(bool holds, const char *what) {
    if (!holds) throw std::system_error(errno, std::generic_category(), what);
}

int main(int argc, char **argv) try {
    if (argc != 2) {
        std::cerr << "usage: " << argv[0] << " SOCKET\n";
        return 2;
    }
    auto server = ringpost::server::start(argv[1]);
    auto alice = ringpost::client::open(argv[1], "alice");

    const int loop = epoll_create1(EPOLL_CLOEXEC);
    int lines[2]; // a pipe: stands for any descriptor of your program
    need(loop >= 0 && pipe(lines) == 0, "descriptors");
    for (const int fd : {alice.readiness(), alice.inbox_readiness(), lines[0]}) {
        epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
        need(epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
    }
    // Somebody at the other end of the pipe, and another client.
    std::jthread others([&] {
        need(write(lines[1], "a line", 6) == 6, "write");
        ringpost::client::open(argv[1], "bob").send("alice", "hello");
    });

    int responses = 0, messages = 0;
    while (responses < 1 || messages < 1) {
        // Look until nothing is there, and arm: only then wait.
        if (alice.outstanding() > 0) {
            if (const auto response = alice.response(ringpost::at_once)) {
                std::cout << "response: " << response->text() << '\n';
                ++responses;
                continue;
            }
        }
        if (const auto message = alice.recv(ringpost::at_once)) {
            std::cout << message->sender_name << ": " << message->data().text() << '\n';
            ++messages;
            continue;
        }
        if (!alice.arm() || !alice.inbox_arm()) continue;
        epoll_event event;
        need(epoll_wait(loop, &event, 1, 10000) == 1, "epoll_wait");
        if (event.data.fd == lines[0]) {
            char line[64];
            const ssize_t len = read(lines[0], line, sizeof line);
            need(len > 0 && alice.submit({line, static_cast<std::size_t>(len)}), "submit");
        } // An event of the bus says no more than to look, which is done before each wait.
    }
    alice.unregister();
    close(loop);
    close(lines[0]);
    close(lines[1]);
} catch (const std::exception &failure) {
    std::cerr << failure.what() << '\n';
    return 1;
}

// A server: clients register with it under names, send each other messages, and call its service, which answers with
// the text in capital letters.
//
//     server [SOCKET]
//
// It says "ready" when clients can come, and ends at SIGTERM or SIGINT.
#include <ringpost.hpp>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <csignal>
#include <iostream>

int main(int argc, char **argv) try {
    if (argc > 2) {
        std::cerr << "usage: " << argv[0] << " [SOCKET]\n";
        return 2;
    }
    const ringpost::c_text path = argc == 2 ? argv[1] : ringpost::default_path;
    // Blocked in every thread, and taken below.
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, nullptr);

    std::atomic<unsigned long> calls = 0; // several threads serve at once
    auto server = ringpost::server::start(path, [&](const ringpost::request &request, ringpost::response &response) {
        std::string text(request.data().text());
        if (text.size() > 256) throw std::length_error("that is too long"); // the caller gets this text
        std::ranges::transform(text, text.begin(), [](unsigned char letter) { return std::toupper(letter); });
        response.write(text);
        ++calls;
    });
    std::cout << "ready" << std::endl;
    int signal_number = 0;
    sigwait(&ends, &signal_number);

    const ringpost_server_summary done = server.stop();
    std::cout << "registered " << done.registered << ", calls " << calls << ", messages " << done.messages << '\n';
} catch (const std::exception &failure) {
    std::cerr << failure.what() << '\n';
    return 1;
}

// What the tests in C++ share.
#ifndef CHECK_HPP
#define CHECK_HPP

#include <ringpost.hpp>

#include <cstdio>
#include <cstdlib>
#include <thread>

#define CHECK(...)                                                             \
    do {                                                                       \
        if (!(__VA_ARGS__)) {                                                  \
            std::fprintf(stderr, "%s:%d: not %s: last failure: %s\n", __FILE__, __LINE__, #__VA_ARGS__, \
                         ringpost_error_text());                               \
            std::exit(1);                                                      \
        }                                                                      \
    } while (0)

// Waits until something holds, but not for ever.
template <typename Holds> bool eventually(Holds holds) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!holds() && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
    return holds();
}

#endif

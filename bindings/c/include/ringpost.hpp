// Ringpost from C++20: owners for the handles of ringpost.h, std::span for data, and exceptions.
//
// The rules of ringpost.h hold: one thread at a time for each object, and data that a function returns is valid
// until the next use of the object. An object that was moved from is empty; using it throws. Failures throw
// ringpost::error, but a wait whose time is over returns std::nullopt where that is the result's type.
#ifndef RINGPOST_HPP
#define RINGPOST_HPP

#include <ringpost.h>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ringpost {

using bytes = std::span<const std::byte>;
using timeout = std::chrono::nanoseconds;
/// Waits without limit.
inline constexpr timeout forever{-1};

/// The bytes of a text, or the text in bytes.
inline bytes as_data(std::string_view text) { return std::as_bytes(std::span(text)); }
inline std::string_view as_text(bytes data) { return {reinterpret_cast<const char *>(data.data()), data.size()}; }

/// A failure: its code, and its text as what().
class error : public std::runtime_error {
public:
    explicit error(ringpost_status code)
        : std::runtime_error(ringpost_error_text()), code_(code), executed_(ringpost_error_may_have_executed()) {}
    ringpost_status code() const noexcept { return code_; }
    /// Whether the other side may have done what was asked, or may yet do it. Of calls and sends.
    bool may_have_executed() const noexcept { return executed_; }

private:
    ringpost_status code_;
    bool executed_;
};

namespace detail {

inline void check(ringpost_status status) {
    if (status != RINGPOST_OK) throw error(status);
}

/// False if there was nothing in time.
inline bool came(ringpost_status status) {
    if (status == RINGPOST_TIMED_OUT) return false;
    check(status);
    return true;
}

inline bytes span_of(const void *data, std::size_t len) { return {static_cast<const std::byte *>(data), len}; }

inline ringpost_status stop_serving(ringpost_serving *serving) { return ringpost_serving_stop(serving, -1); }

template <typename Handle, auto Free> struct freer {
    void operator()(Handle *handle) const noexcept { Free(handle); }
};
template <typename Handle, auto Free> using owner = std::unique_ptr<Handle, freer<Handle, Free>>;

inline ringpost_status stop_server(ringpost_server *server) { return ringpost_server_stop(server, -1, nullptr); }

} // namespace detail

/// What a service sees.
class request {
public:
    explicit request(const ringpost_request *raw) : raw_(raw) {}
    bytes payload() const { return detail::span_of(raw_->payload, raw_->len); }
    const ringpost_peer &peer() const { return raw_->peer; }
    bool wants_response() const { return raw_->wants_response; }

private:
    const ringpost_request *raw_;
};

/// What a service writes.
class response {
public:
    explicit response(ringpost_response *raw) : raw_(raw) {}
    void write(bytes data) { detail::check(ringpost_response_write(raw_, data.data(), data.size())); }

private:
    ringpost_response *raw_;
};

/// A service. Several threads call it at once. The caller gets the text of an exception that leaves it.
using service = std::function<void(const request &, response &)>;

namespace detail {

inline int serve(void *context, const ringpost_request *raw, ringpost_response *out) noexcept {
    try {
        response to(out);
        (*static_cast<const service *>(context))(request(raw), to);
        return 0;
    } catch (const error &failure) {
        // A response that is too large has said so already, in a better way.
        if (failure.code() != RINGPOST_TOO_LARGE) ringpost_response_fail(out, failure.what());
    } catch (const std::exception &failure) {
        ringpost_response_fail(out, failure.what());
    } catch (...) {
    }
    return 1;
}

inline void release(void *context) noexcept { delete static_cast<service *>(context); }

} // namespace detail

/// A server. Its destructor shuts it down.
class server {
public:
    /// Without a service it echoes.
    explicit server(const std::string &path, service answers = nullptr) {
        ringpost_server *raw = nullptr;
        if (answers) {
            // The library deletes it, also if this fails.
            auto *context = new service(std::move(answers));
            detail::check(ringpost_server_start(path.c_str(), nullptr, detail::serve, context, detail::release, &raw));
        } else {
            detail::check(ringpost_server_start(path.c_str(), nullptr, nullptr, nullptr, nullptr, &raw));
        }
        raw_.reset(raw);
    }
    void shutdown() { detail::check(ringpost_server_shutdown(raw_.get())); }

private:
    detail::owner<ringpost_server, detail::stop_server> raw_;
};

/// The calling end of a link. Its destructor ends it.
class link {
public:
    explicit link(ringpost_link *raw) : raw_(raw) {}
    bytes call(bytes data, timeout limit = forever) {
        const void *reply = nullptr;
        std::size_t len = 0;
        detail::check(ringpost_link_call(raw_.get(), data.data(), data.size(), limit.count(), &reply, &len));
        return detail::span_of(reply, len);
    }
    void post(bytes data) { detail::check(ringpost_link_post(raw_.get(), data.data(), data.size())); }
    ringpost_link *get() const noexcept { return raw_.get(); }

private:
    detail::owner<ringpost_link, ringpost_link_free> raw_;
};

/// Serves links on threads of its own. Its destructor ends them.
class serving {
public:
    explicit serving(ringpost_serving *raw) : raw_(raw) {}

private:
    detail::owner<ringpost_serving, detail::stop_serving> raw_;
};

/// Publishes samples of one topic.
class publisher {
public:
    explicit publisher(ringpost_publisher *raw) : raw_(raw) {}
    void send(bytes sample, timeout limit = forever) {
        detail::check(ringpost_publisher_send(raw_.get(), sample.data(), sample.size(), limit.count()));
    }
    ringpost_publisher *get() const noexcept { return raw_.get(); }

private:
    detail::owner<ringpost_publisher, ringpost_publisher_free> raw_;
};

/// A sample. Its payload is valid until the next use of the subscriber.
struct sample : ringpost_sample {
    bytes data() const { return detail::span_of(payload, len); }
};

/// Receives samples.
class subscriber {
public:
    explicit subscriber(ringpost_subscriber *raw) : raw_(raw) {}
    std::optional<sample> recv(timeout limit = forever) {
        sample received{};
        if (!detail::came(ringpost_subscriber_recv(raw_.get(), limit.count(), &received))) return std::nullopt;
        return received;
    }
    ringpost_subscriber *get() const noexcept { return raw_.get(); }

private:
    detail::owner<ringpost_subscriber, ringpost_subscriber_free> raw_;
};

/// A message. Its payload is valid until the next use of the client.
struct message : ringpost_message {
    bytes data() const { return detail::span_of(payload, len); }
};

/// A registered client. Its destructor unregisters it.
class client {
public:
    client(const std::string &path, const std::string &name, timeout limit = std::chrono::seconds(5)) {
        ringpost_client *raw = nullptr;
        detail::check(ringpost_register(path.c_str(), name.c_str(), limit.count(), &raw));
        raw_.reset(raw);
    }
    ringpost_key key() const {
        ringpost_key key{};
        detail::check(ringpost_client_key(raw_.get(), &key));
        return key;
    }
    bytes call(bytes data, timeout limit = forever) {
        const void *reply = nullptr;
        std::size_t len = 0;
        detail::check(ringpost_client_call(raw_.get(), data.data(), data.size(), limit.count(), &reply, &len));
        return detail::span_of(reply, len);
    }
    void send(const std::string &to, bytes data, timeout limit = forever) {
        detail::check(ringpost_client_send(raw_.get(), to.c_str(), data.data(), data.size(), limit.count()));
    }
    void send(const ringpost_key &to, bytes data, timeout limit = forever) {
        detail::check(ringpost_client_send_to_key(raw_.get(), &to, data.data(), data.size(), limit.count()));
    }
    std::optional<message> recv(timeout limit = forever) {
        message received{};
        if (!detail::came(ringpost_client_recv(raw_.get(), limit.count(), &received))) return std::nullopt;
        return received;
    }
    std::optional<ringpost_key> look_up(const std::string &name) {
        ringpost_key key{};
        const ringpost_status status = ringpost_client_look_up(raw_.get(), name.c_str(), 5000000000, &key);
        if (status == RINGPOST_NOT_FOUND) return std::nullopt;
        detail::check(status);
        return key;
    }
    link connect(const std::string &to, timeout limit = forever, bool arms = false) {
        ringpost_link *raw = nullptr;
        detail::check(ringpost_connect(raw_.get(), to.c_str(), limit.count(), arms, &raw));
        return link(raw);
    }
    /// Serves the links of clients that connect.
    serving serve(service answers) {
        ringpost_listener *listener = nullptr;
        ringpost_serving *raw = nullptr;
        auto context = std::make_unique<service>(std::move(answers));
        detail::check(ringpost_listen(raw_.get(), 5000000000, &listener));
        // The library deletes it, also if this fails.
        detail::check(ringpost_listener_serve(listener, detail::serve, context.release(), detail::release, &raw));
        return serving(raw);
    }
    publisher publish(const std::string &topic) {
        ringpost_publisher *raw = nullptr;
        detail::check(ringpost_publish(raw_.get(), topic.c_str(), 0, -1, false, 5000000000, &raw));
        return publisher(raw);
    }
    subscriber subscribe(const std::string &pattern, ringpost_policy policy = RINGPOST_LOSSY,
                         timeout limit = std::chrono::seconds(5)) {
        ringpost_subscriber *raw = nullptr;
        detail::check(ringpost_subscribe(raw_.get(), pattern.c_str(), policy, 0, false, limit.count(), &raw));
        return subscriber(raw);
    }
    /// The handle, for what is not here: the client still owns it.
    ringpost_client *get() const noexcept { return raw_.get(); }

private:
    detail::owner<ringpost_client, ringpost_client_free> raw_;
};

} // namespace ringpost

#endif

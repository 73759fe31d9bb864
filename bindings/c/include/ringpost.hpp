// Ringpost from C++20: owners for the handles of ringpost.h, std::span for data, and exceptions or std::expected.
//
// The rules of ringpost.h hold, so read its head. In short:
//
// Ownership. An object owns its handle and ends it in its destructor. Objects are moved, not copied. One that was moved
// from is empty: using it fails with RINGPOST_NULL_POINTER. get() is for functions of ringpost.h that are not here.
//
// Failures. They throw ringpost::error. If RINGPOST_EXPECTED is defined as 1 before this file is included, functions
// return std::expected<T, ringpost::error> in place of T, and throw nothing. `result<T>` below is one or the other.
// That no message came in time is no failure where the result is optional, nor that there was no room where it is bool.
//
// Time. Limits are durations, or deadlines of std::chrono::steady_clock. A negative duration counts as 0.
//
// Data. What a function takes are `bytes`: a text, or a contiguous range of anything that may be copied as bytes.
// What it returns is valid until the next use of the object that returned it, unless it says otherwise.
#ifndef RINGPOST_HPP
#define RINGPOST_HPP

#include <ringpost/links.hpp>
#include <ringpost/topics.hpp>

namespace ringpost {
inline namespace RINGPOST_MODE {

namespace detail {
inline ringpost_status stop_server(ringpost_server *server) { return ringpost_server_stop(server, -1, nullptr); }
} // namespace detail

/// How a server differs from the usual one: see ringpost_server_options. 0 is the usual.
struct server_options {
    std::uint32_t max_clients = 0;
    /// Of each ring of a client, in bytes.
    std::size_t ring_size = 0;
    /// The largest call or message, in bytes, with its header.
    std::size_t max_block = 0;
    /// How long an end waits for services that run.
    std::chrono::nanoseconds grace{0};
    /// Users, and groups, that may use the server besides its own user and root.
    std::vector<std::uint32_t> allow_users = {}, allow_groups = {};
};

/// A server. Its destructor shuts it down, and waits until it has ended, but not in a service of its own.
class server : public detail::owner<ringpost_server, detail::stop_server> {
public:
    using owner::owner;
    /// Starts a server that echoes.
    RINGPOST_CHECKED static result<server> start(c_text path, const server_options &how = {}) {
        return start(path, how, nullptr, nullptr, nullptr);
    }
    /// Starts a server with a service, which it keeps until no thread uses it any more.
    template <shared_service Service>
    RINGPOST_CHECKED static result<server> start(c_text path, Service answers, const server_options &how = {}) {
        auto *context = new Service(std::move(answers)); // the library releases it, also if this fails
        return start(path, how, detail::serve<const Service>, context, detail::release<Service>);
    }
    /// Begins the shutdown. Does not block. Any thread may do that at any time, also in a service or a signal handler.
    RINGPOST_CHECKED result<void> shutdown() { return detail::done(ringpost_server_shutdown(get())); }
    /// Shuts down, waits, and says what the server has done. RINGPOST_TIMED_OUT: stop again.
    RINGPOST_CHECKED result<ringpost_server_summary> stop(timeout limit = forever) {
        ringpost_server_summary summary{};
        const ringpost_status status = ringpost_server_stop(get(), limit.ns(), &summary);
        return detail::of(status == RINGPOST_TIMED_OUT ? status : took(status), [&] { return summary; });
    }
    RINGPOST_CHECKED result<std::uint32_t> clients() {
        std::uint32_t number = 0;
        return detail::of(ringpost_server_clients(get(), &number), [&] { return number; });
    }

private:
    static result<server> start(c_text path, const server_options &how, ringpost_service answers, void *context,
                                ringpost_release release) {
        ringpost_server_options options{};
        options.size = sizeof options;
        options.max_clients = how.max_clients;
        options.ring_size = how.ring_size;
        options.max_block = how.max_block;
        options.grace_ns = how.grace.count();
        options.allow_users = how.allow_users.data();
        options.allow_users_len = how.allow_users.size();
        options.allow_groups = how.allow_groups.data();
        options.allow_groups_len = how.allow_groups.size();
        ringpost_server *raw = nullptr;
        return detail::of(ringpost_server_start(path.get(), &options, answers, context, release, &raw),
                          [&] { return server(raw); });
    }
};

/// A message. Its data is valid until the next `recv` of the client. Its other members are those of ringpost_message.
struct message : ringpost_message {
    bytes data() const noexcept { return {payload, len}; }
};

/// The longest payloads, in bytes.
struct limits {
    std::size_t call, message;
};

/// A registered client. Its destructor unregisters it, and waits for that for a second at most.
///
/// One thread may receive messages (recv, inbox_readiness, inbox_arm) while another does all else.
class client : public detail::owner<ringpost_client, ringpost_client_free> {
public:
    using owner::owner;
    /// Registers a name with the server at a path.
    RINGPOST_CHECKED static result<client> open(c_text path, c_text name, timeout limit = usual) {
        ringpost_client *raw = nullptr;
        return detail::of(ringpost_register(path.get(), name.get(), limit.ns(), &raw), [&] { return client(raw); });
    }
    /// Ends the registration, waits until the server confirms it, and empties this object, whatever comes of it.
    RINGPOST_CHECKED result<void> unregister(timeout limit = usual) {
        return detail::done(took(ringpost_client_unregister(get(), limit.ns())));
    }
    /// The address for others, beside the name.
    RINGPOST_CHECKED result<ringpost_key> key() const {
        ringpost_key own{};
        return detail::of(ringpost_client_key(get(), &own), [&] { return own; });
    }
    RINGPOST_CHECKED result<ringpost::limits> limits() const {
        ringpost::limits longest{};
        return detail::of(ringpost_client_limits(get(), &longest.call, &longest.message), [&] { return longest; });
    }

    /// Calls the server's service, and waits for the response: valid until the next use of the client but recv.
    RINGPOST_CHECKED result<bytes> call(bytes data, timeout limit = forever) {
        const void *reply = nullptr;
        std::size_t len = 0;
        return detail::of(ringpost_client_call(get(), data.data(), data.size(), limit.ns(), &reply, &len),
                          [&] { return bytes(reply, len); });
    }
    /// Sends a request without waiting for its response. False: collect responses first.
    [[nodiscard]] result<bool> submit(bytes data) {
        return detail::fitted(ringpost_client_submit(get(), data.data(), data.size()));
    }
    /// The response to the oldest submitted request, or nothing if it did not come in time.
    RINGPOST_CHECKED result<std::optional<bytes>> response(timeout limit = forever) {
        const void *reply = nullptr;
        std::size_t len = 0;
        return detail::came(ringpost_client_response(get(), limit.ns(), &reply, &len),
                            [&] { return bytes(reply, len); });
    }
    /// How many submitted requests have a response to collect.
    RINGPOST_CHECKED result<std::size_t> outstanding() {
        std::size_t number = 0;
        return detail::of(ringpost_client_outstanding(get(), &number), [&] { return number; });
    }
    RINGPOST_CHECKED result<void> ping(timeout limit = usual) {
        return detail::done(ringpost_client_ping(get(), limit.ns()));
    }

    /// Sends a message to a client by name, or by the text of its key. It waits while the other's inbox is full.
    RINGPOST_CHECKED result<void> send(c_text to, bytes data, timeout limit = forever) {
        return detail::done(ringpost_client_send(get(), to.get(), data.data(), data.size(), limit.ns()));
    }
    RINGPOST_CHECKED result<void> send(const ringpost_key &to, bytes data, timeout limit = forever) {
        return detail::done(ringpost_client_send_to_key(get(), &to, data.data(), data.size(), limit.ns()));
    }
    /// As send, but does not wait for room. False: the other's inbox is full.
    [[nodiscard]] result<bool> try_send(c_text to, bytes data) {
        return detail::fitted(ringpost_client_send(get(), to.get(), data.data(), data.size(), 0));
    }
    [[nodiscard]] result<bool> try_send(const ringpost_key &to, bytes data) {
        return detail::fitted(ringpost_client_send_to_key(get(), &to, data.data(), data.size(), 0));
    }
    /// The next message, or nothing if none came in time.
    RINGPOST_CHECKED result<std::optional<message>> recv(timeout limit = forever) {
        message received{};
        return detail::came(ringpost_client_recv(get(), limit.ns(), &received), [&] { return received; });
    }

    /// The key of the client with a name, or nothing if there is none.
    RINGPOST_CHECKED result<std::optional<ringpost_key>> look_up(c_text name, timeout limit = usual) {
        ringpost_key found{};
        const ringpost_status status = ringpost_client_look_up(get(), name.get(), limit.ns(), &found);
        if (status == RINGPOST_NOT_FOUND) return std::optional<ringpost_key>();
        return detail::of(status, [&] { return std::optional(found); });
    }
    /// Waits until there is a client with a name. Nothing if there was none in time.
    RINGPOST_CHECKED result<std::optional<ringpost_key>> wait_for(c_text name, timeout limit = forever) {
        ringpost_key found{};
        return detail::came(ringpost_client_wait_for(get(), name.get(), limit.ns(), &found), [&] { return found; });
    }
    /// All clients that are registered.
    RINGPOST_CHECKED result<std::vector<ringpost_client_info>> list(timeout limit = usual);

    /// Opens a link to a client by name, or by the text of its key.
    RINGPOST_CHECKED result<link> connect(c_text to, timeout limit = usual, bool arms = false) {
        ringpost_link *raw = nullptr;
        return detail::of(ringpost_connect(get(), to.get(), arms, limit.ns(), &raw), [&] { return link(raw); });
    }
    /// Lets other clients open links to this one.
    RINGPOST_CHECKED result<listener> listen(timeout limit = usual) {
        ringpost_listener *raw = nullptr;
        return detail::of(ringpost_listen(get(), limit.ns(), &raw), [&] { return listener(raw); });
    }
    /// Listens, and serves the links of all who connect on threads of its own.
    template <shared_service Service> RINGPOST_CHECKED result<serving> serve(Service answers, timeout limit = usual) {
#if RINGPOST_EXPECTED
        auto in = listen(limit);
        if (!in) return std::unexpected(in.error());
        return in->serve(std::move(answers));
#else
        return listen(limit).serve(std::move(answers));
#endif
    }

    RINGPOST_CHECKED result<publisher> publish(c_text topic, publish_options how = {}, timeout limit = usual) {
        ringpost_publisher *raw = nullptr;
        const std::int64_t reliable_ns = how.reliable ? how.reliable->ns() : -1;
        return detail::of(
            ringpost_publish(get(), topic.get(), how.ring_size, reliable_ns, how.arms, limit.ns(), &raw),
            [&] { return publisher(raw); });
    }
    /// Subscribes to all topics that match a pattern, now and later.
    RINGPOST_CHECKED result<subscriber> subscribe(c_text pattern, subscribe_options how = {}, timeout limit = usual) {
        ringpost_subscriber *raw = nullptr;
        return detail::of(
            ringpost_subscribe(get(), pattern.get(), how.policy, how.history, how.arms, limit.ns(), &raw),
            [&] { return subscriber(raw); });
    }

    RINGPOST_CHECKED result<closer> make_closer() {
        ringpost_closer *raw = nullptr;
        return detail::of(ringpost_client_closer(get(), &raw), [&] { return closer(raw); });
    }
    /// The descriptor to wait for responses. Look until nothing is there, arm, and wait only if that says true.
    RINGPOST_CHECKED result<int> readiness(timeout limit = usual) {
        int fd = -1;
        return detail::of(ringpost_client_readiness(get(), limit.ns(), &fd), [&] { return fd; });
    }
    /// Says that the program is about to wait for responses. False: something came, so look again.
    [[nodiscard]] result<bool> arm() {
        bool armed = false;
        return detail::of(ringpost_client_arm(get(), &armed), [&] { return armed; });
    }
    /// As readiness and arm, for messages.
    RINGPOST_CHECKED result<int> inbox_readiness() {
        int fd = -1;
        return detail::of(ringpost_client_inbox_readiness(get(), &fd), [&] { return fd; });
    }
    [[nodiscard]] result<bool> inbox_arm() {
        bool armed = false;
        return detail::of(ringpost_client_inbox_arm(get(), &armed), [&] { return armed; });
    }
};

namespace detail {

struct listed {
    std::vector<ringpost_client_info> all;
#if __cpp_exceptions
    std::exception_ptr failure;
#endif
};

inline int list(void *context, const ringpost_client_info *info) noexcept {
    auto &to = *static_cast<listed *>(context);
#if __cpp_exceptions
    try {
        to.all.push_back(*info);
    } catch (...) {
        to.failure = std::current_exception();
        return 1;
    }
#else
    to.all.push_back(*info);
#endif
    return 0;
}

} // namespace detail

inline result<std::vector<ringpost_client_info>> client::list(timeout limit) {
    detail::listed found;
    const ringpost_status status = ringpost_client_list(get(), limit.ns(), detail::list, &found);
#if __cpp_exceptions
    if (found.failure) std::rethrow_exception(found.failure);
#endif
    return detail::of(status, [&] { return std::move(found.all); });
}

} // namespace RINGPOST_MODE
} // namespace ringpost

#endif

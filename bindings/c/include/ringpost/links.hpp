// Services and links. See ringpost.hpp.
#ifndef RINGPOST_LINKS_HPP
#define RINGPOST_LINKS_HPP

#include <ringpost/base.hpp>

namespace ringpost {
inline namespace RINGPOST_MODE {

/// What a service sees. It is there until the service returns.
class request {
public:
    explicit request(const ringpost_request *raw) noexcept : raw_(raw) {}
    bytes data() const noexcept { return {raw_->payload, raw_->len}; }
    /// Who calls, as the server knows it.
    const ringpost_peer &peer() const noexcept { return raw_->peer; }
    bool wants_response() const noexcept { return raw_->wants_response; }

private:
    const ringpost_request *raw_;
};

/// What a service writes. It is there until the service returns.
class response {
public:
    explicit response(ringpost_response *raw) noexcept : raw_(raw) {}
    /// Appends. RINGPOST_TOO_LARGE: it would not fit, and the caller is told so.
    RINGPOST_CHECKED result<void> write(bytes data) {
        return detail::done(ringpost_response_write(raw_, data.data(), data.size()));
    }
    std::size_t remaining() const noexcept {
        std::size_t bytes_left = 0;
        ringpost_response_remaining(raw_, &bytes_left);
        return bytes_left;
    }
    /// Makes the call fail with this text, whatever else the service does. A text that is not UTF-8 is left out.
    void fail(c_text why) noexcept {
        if (ringpost_response_fail(raw_, why.get()) != RINGPOST_OK) ringpost_response_fail(raw_, "the service failed");
    }

private:
    ringpost_response *raw_;
};

/// A service: what it writes is the response. The caller gets the text of an exception that leaves it, or of the
/// error that it returns as a result<void>.
template <typename F>
concept service = std::invocable<F &, const request &, response &>;
/// A service that several threads call at once: a const one.
template <typename F>
concept shared_service = service<const F>;

namespace detail {

template <typename Service> int serve(void *context, const ringpost_request *raw, ringpost_response *out) noexcept {
    const request asked(raw);
    response answer(out);
#if __cpp_exceptions
    try {
#endif
        Service &answers = *static_cast<Service *>(context);
        if constexpr (std::is_void_v<std::invoke_result_t<Service &, const request &, response &>>) {
            answers(asked, answer);
        } else if (const auto done = answers(asked, answer); !done) {
            if (done.error().code() != RINGPOST_TOO_LARGE) answer.fail(done.error().what());
            return 1;
        }
        return 0;
#if __cpp_exceptions
    } catch (const error &failure) {
        // A response that is too large has said so already, in a better way.
        if (failure.code() != RINGPOST_TOO_LARGE) answer.fail(failure.what());
    } catch (const std::exception &failure) {
        answer.fail(failure.what());
    } catch (...) {
        answer.fail("the service threw something that is no std::exception");
    }
    return 1;
#endif
}

template <typename Service> void release(void *context) noexcept { delete static_cast<Service *>(context); }

inline ringpost_status stop_serving(ringpost_serving *serving) { return ringpost_serving_stop(serving, -1); }

} // namespace detail

/// The calling end of a link.
class link : public detail::waiting<ringpost_link, ringpost_link_free, ringpost_link_readiness, ringpost_link_arm> {
public:
    using waiting::waiting;
    RINGPOST_CHECKED result<bytes> call(bytes data, timeout limit = forever) {
        const void *reply = nullptr;
        std::size_t len = 0;
        return detail::of(ringpost_link_call(get(), data.data(), data.size(), limit.ns(), &reply, &len),
                          [&] { return bytes(reply, len); });
    }
    /// Sends a request without waiting. False: collect responses first.
    [[nodiscard]] result<bool> submit(bytes data) {
        return detail::fitted(ringpost_link_submit(get(), data.data(), data.size()));
    }
    /// The response to the oldest submitted request, or nothing if it did not come in time.
    RINGPOST_CHECKED result<std::optional<bytes>> response(timeout limit = forever) {
        const void *reply = nullptr;
        std::size_t len = 0;
        return detail::came(ringpost_link_response(get(), limit.ns(), &reply, &len), [&] { return bytes(reply, len); });
    }
    /// Sends a request that gets no response, without waiting. False: there is no room now.
    [[nodiscard]] result<bool> post(bytes data) {
        return detail::fitted(ringpost_link_post(get(), data.data(), data.size()));
    }
    /// Who serves.
    RINGPOST_CHECKED result<ringpost_peer> peer() {
        ringpost_peer who{};
        return detail::of(ringpost_link_peer(get(), &who), [&] { return who; });
    }
    RINGPOST_CHECKED result<closer> make_closer() {
        ringpost_closer *raw = nullptr;
        return detail::of(ringpost_link_closer(get(), &raw), [&] { return closer(raw); });
    }
};

/// The serving end of a link, for one thread.
class responder : public detail::waiting<ringpost_responder, ringpost_responder_free, ringpost_responder_readiness,
                                         ringpost_responder_arm> {
public:
    using waiting::waiting;
    /// Serves on this thread until the link has ended.
    template <service Service> RINGPOST_CHECKED result<void> serve(Service answers) {
        return detail::done(ringpost_responder_serve(get(), detail::serve<Service>, &answers, -1));
    }
    /// Serves what is there, on this thread, and returns whether the link goes on.
    template <service Service> [[nodiscard]] result<bool> serve_ready(Service answers) {
        bool ended = false;
        return detail::of(ringpost_responder_serve_ready(get(), detail::serve<Service>, &answers, &ended),
                          [&] { return !ended; });
    }
    /// Who calls.
    RINGPOST_CHECKED result<ringpost_peer> peer() {
        ringpost_peer who{};
        return detail::of(ringpost_responder_peer(get(), &who), [&] { return who; });
    }
    RINGPOST_CHECKED result<closer> make_closer() {
        ringpost_closer *raw = nullptr;
        return detail::of(ringpost_responder_closer(get(), &raw), [&] { return closer(raw); });
    }
};

/// A client that wants to connect, and waits for an answer. Its destructor gives it none: RINGPOST_GONE.
class incoming : public detail::owner<ringpost_incoming, ringpost_incoming_free> {
public:
    using owner::owner;
    /// Who it is, as the server knows it.
    RINGPOST_CHECKED result<ringpost_peer> peer() {
        ringpost_peer who{};
        return detail::of(ringpost_incoming_peer(get(), &who), [&] { return who; });
    }
    /// Lets it in, and empties this object. `arms`: the responder will be waited for in an event loop.
    RINGPOST_CHECKED result<responder> accept(bool arms = false) {
        ringpost_responder *raw = nullptr;
        return detail::of(took(ringpost_incoming_accept(get(), arms, &raw)), [&] { return responder(raw); });
    }
    /// Refuses it with a reason, and empties this object.
    RINGPOST_CHECKED result<void> refuse(c_text why) {
        return detail::done(took(ringpost_incoming_refuse(get(), why.get())));
    }
};

/// Serves links on threads of its own. Its destructor ends them, and waits for the services that run.
class serving : public detail::owner<ringpost_serving, detail::stop_serving> {
public:
    using owner::owner;
    /// What the destructor does, which does not wait in a service of this serving. RINGPOST_TIMED_OUT: stop again.
    RINGPOST_CHECKED result<void> stop(timeout limit = forever) {
        const ringpost_status status = ringpost_serving_stop(get(), limit.ns());
        return detail::done(status == RINGPOST_TIMED_OUT ? status : took(status));
    }
};

/// Where links to a client come in. Its destructor lets no more in.
class listener : public detail::waiting<ringpost_listener, ringpost_listener_free, ringpost_listener_readiness,
                                        ringpost_listener_arm> {
public:
    using waiting::waiting;
    /// The next client that wants to connect, or nothing if none came in time.
    RINGPOST_CHECKED result<std::optional<incoming>> accept(timeout limit = forever) {
        ringpost_incoming *raw = nullptr;
        return detail::came(ringpost_listener_accept(get(), limit.ns(), &raw), [&] { return incoming(raw); });
    }
    /// Serves by itself from now on, and empties this object.
    template <shared_service Service> RINGPOST_CHECKED result<serving> serve(Service answers) {
        ringpost_serving *raw = nullptr;
        auto *context = new Service(std::move(answers)); // the library releases it, also if this fails
        const ringpost_status status =
            ringpost_listener_serve(get(), detail::serve<const Service>, context, detail::release<Service>, &raw);
        return detail::of(took(status), [&] { return serving(raw); });
    }
    RINGPOST_CHECKED result<closer> make_closer() {
        ringpost_closer *raw = nullptr;
        return detail::of(ringpost_listener_closer(get(), &raw), [&] { return closer(raw); });
    }
};

} // namespace RINGPOST_MODE
} // namespace ringpost

#endif

// Topics: publishers, subscribers, and samples in place. See ringpost.hpp.
#ifndef RINGPOST_TOPICS_HPP
#define RINGPOST_TOPICS_HPP

#include <ringpost/base.hpp>

namespace ringpost {
inline namespace RINGPOST_MODE {

/// How a topic is published.
struct publish_options {
    /// The size of the ring in bytes; 0 is the usual one.
    std::size_t ring_size = 0;
    /// How long samples wait for subscribers that want each one. Without it they never wait.
    std::optional<timeout> reliable = std::nullopt;
    /// The publisher will be waited for in an event loop.
    bool arms = false;
};

/// How a topic is received.
struct subscribe_options {
    ringpost_policy policy = RINGPOST_LOSSY;
    /// Begin with so many of the last samples of each publisher.
    std::uint64_t history = 0;
    /// The subscriber will be waited for in an event loop.
    bool arms = false;
};

/// Room in the publisher's ring for a sample that is written there. It keeps the publisher alive. While it is open, the
/// publisher can do nothing else (RINGPOST_IN_USE). Its destructor abandons what was not committed.
class grant {
public:
    grant(std::shared_ptr<ringpost_publisher> publisher, void *room, std::size_t len) noexcept
        : publisher_(std::move(publisher)), room_(static_cast<std::byte *>(room)), len_(len) {}
    grant(grant &&other) noexcept
        : publisher_(std::move(other.publisher_)), room_(other.room_), len_(std::exchange(other.len_, 0)) {}
    grant &operator=(grant other) noexcept {
        std::swap(publisher_, other.publisher_);
        std::swap(room_, other.room_);
        std::swap(len_, other.len_);
        return *this;
    }
    ~grant() {
        if (publisher_) ringpost_publisher_abandon(publisher_.get());
    }
    /// Where the sample is written. Valid until it is committed or abandoned.
    std::span<std::byte> data() noexcept { return {room_, len_}; }
    /// Publishes all of it, and empties this object.
    RINGPOST_CHECKED result<void> commit() { return commit(len_); }
    /// Publishes the first `len` bytes, and empties this object.
    RINGPOST_CHECKED result<void> commit(std::size_t len) {
        const ringpost_status status = ringpost_publisher_commit(publisher_.get(), len);
        if (status == RINGPOST_OK) {
            publisher_.reset();
            len_ = 0;
        }
        return detail::done(status);
    }

private:
    std::shared_ptr<ringpost_publisher> publisher_;
    std::byte *room_;
    std::size_t len_;
};

/// Publishes samples of one topic.
class publisher
    : public detail::waiting<ringpost_publisher, ringpost_publisher_free, ringpost_publisher_readiness,
                             ringpost_publisher_arm, std::shared_ptr<ringpost_publisher>> {
public:
    using waiting::waiting;
    /// Publishes a copy. It waits only for subscribers that want each sample, if the publisher offers that.
    RINGPOST_CHECKED result<void> send(bytes sample, timeout limit = forever) {
        return detail::done(ringpost_publisher_send(get(), sample.data(), sample.size(), limit.ns()));
    }
    /// As send, but does not wait. False: there is no room now.
    [[nodiscard]] result<bool> try_send(bytes sample) {
        return detail::fitted(ringpost_publisher_send(get(), sample.data(), sample.size(), 0));
    }
    /// Room for a sample of at most `len` bytes, to be written in place. It waits as send does.
    RINGPOST_CHECKED result<ringpost::grant> grant(std::size_t len, timeout limit = forever) {
        void *room = nullptr;
        return detail::of(ringpost_publisher_grant(get(), len, limit.ns(), &room),
                          [&] { return ringpost::grant(handle_, room, len); });
    }
    /// The longest sample in bytes.
    RINGPOST_CHECKED result<std::size_t> max_sample() {
        std::size_t longest = 0, unused = 0;
        return detail::of(ringpost_publisher_limits(get(), &longest, &unused), [&] { return longest; });
    }
    RINGPOST_CHECKED result<std::size_t> subscribers() {
        std::size_t unused = 0, number = 0;
        return detail::of(ringpost_publisher_limits(get(), &unused, &number), [&] { return number; });
    }
    RINGPOST_CHECKED result<closer> make_closer() {
        ringpost_closer *raw = nullptr;
        return detail::of(ringpost_publisher_closer(get(), &raw), [&] { return closer(raw); });
    }
};

/// A sample: a copy, valid until the next use of the subscriber. Its other members are those of ringpost_sample.
struct sample : ringpost_sample {
    bytes data() const noexcept { return {payload, len}; }
};

/// A sample in the publisher's memory. It keeps that and the subscriber alive. While it is open, the subscriber can do
/// nothing else (RINGPOST_IN_USE). Its destructor releases it.
///
/// The publisher may change the bytes at any time, unless the subscription is reliable: what was made of them is worth
/// something only if `intact` or `release` said true afterwards.
class view {
public:
    view(std::shared_ptr<ringpost_subscriber> subscriber, const ringpost_sample &sample) noexcept
        : subscriber_(std::move(subscriber)), sample_{sample} {}
    view(view &&other) noexcept
        : subscriber_(std::move(other.subscriber_)), sample_(std::exchange(other.sample_, {})) {}
    view &operator=(view other) noexcept {
        std::swap(subscriber_, other.subscriber_);
        std::swap(sample_, other.sample_);
        return *this;
    }
    ~view() {
        if (subscriber_) ringpost_subscriber_release(subscriber_.get());
    }
    /// The bytes in place.
    bytes data() const noexcept { return sample_.data(); }
    /// Topic, publisher, sequence, missed.
    const sample *operator->() const noexcept { return &sample_; }
    /// Whether what was read so far was the sample.
    [[nodiscard]] result<bool> intact() { return whole(ringpost_subscriber_check(subscriber_.get())); }
    /// Releases the sample, empties this object, and says whether what was read was the sample.
    [[nodiscard]] result<bool> release() {
        const ringpost_status status = ringpost_subscriber_release(subscriber_.get());
        subscriber_.reset();
        sample_ = {};
        return whole(status);
    }

private:
    static result<bool> whole(ringpost_status status) {
        if (status == RINGPOST_OVERRUN) return false;
        return detail::of(status, [] { return true; });
    }
    std::shared_ptr<ringpost_subscriber> subscriber_;
    sample sample_;
};

/// Receives the samples of all topics that match a pattern.
class subscriber
    : public detail::waiting<ringpost_subscriber, ringpost_subscriber_free, ringpost_subscriber_readiness,
                             ringpost_subscriber_arm, std::shared_ptr<ringpost_subscriber>> {
public:
    using waiting::waiting;
    /// The next sample as a copy, or nothing if none came in time.
    RINGPOST_CHECKED result<std::optional<sample>> recv(timeout limit = forever) {
        sample received{};
        return detail::came(ringpost_subscriber_recv(get(), limit.ns(), &received), [&] { return received; });
    }
    /// The next sample in place, or nothing if none came in time.
    RINGPOST_CHECKED result<std::optional<ringpost::view>> view(timeout limit = forever) {
        ringpost_sample received{};
        return detail::came(ringpost_subscriber_view(get(), limit.ns(), &received),
                            [&] { return ringpost::view(handle_, received); });
    }
    RINGPOST_CHECKED result<closer> make_closer() {
        ringpost_closer *raw = nullptr;
        return detail::of(ringpost_subscriber_closer(get(), &raw), [&] { return closer(raw); });
    }
};

} // namespace RINGPOST_MODE
} // namespace ringpost

#endif

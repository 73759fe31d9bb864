// How the C++ interface takes failures, time, data and handles. See ringpost.hpp.
#ifndef RINGPOST_BASE_HPP
#define RINGPOST_BASE_HPP

#include <ringpost.h>

#include <chrono>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#ifndef RINGPOST_EXPECTED
#define RINGPOST_EXPECTED 0
#endif
#if RINGPOST_EXPECTED
#include <expected>
#ifndef __cpp_lib_expected
#error "std::expected needs C++23; without RINGPOST_EXPECTED failures are exceptions"
#endif
#define RINGPOST_MODE expecting
#define RINGPOST_CHECKED [[nodiscard]]
#else
#ifndef __cpp_exceptions
#error "exceptions are off: define RINGPOST_EXPECTED as 1"
#endif
#define RINGPOST_MODE throwing
#define RINGPOST_CHECKED
#endif

// Keys are compared, ordered and hashed by their bytes.
inline bool operator==(const ringpost_key &a, const ringpost_key &b) noexcept {
    return std::memcmp(a.bytes, b.bytes, sizeof a.bytes) == 0;
}
inline std::strong_ordering operator<=>(const ringpost_key &a, const ringpost_key &b) noexcept {
    return std::memcmp(a.bytes, b.bytes, sizeof a.bytes) <=> 0;
}
template <> struct std::hash<ringpost_key> {
    std::size_t operator()(const ringpost_key &key) const noexcept {
        return std::hash<std::string_view>()({reinterpret_cast<const char *>(key.bytes), sizeof key.bytes});
    }
};

namespace ringpost {
// Files of one program may differ in how they take failures: their types have different names for the linker.
inline namespace RINGPOST_MODE {

/// A failure: its code, and its text as what().
class error : public std::runtime_error {
public:
    /// The last failure of this thread.
    explicit error(ringpost_status code)
        : std::runtime_error(ringpost_error_text()), code_(code), executed_(ringpost_error_may_have_executed()) {}
    ringpost_status code() const noexcept { return code_; }
    /// Of calls and sends: whether the other side may have done what was asked, or may yet do it.
    bool may_have_executed() const noexcept { return executed_; }

private:
    ringpost_status code_;
    bool executed_;
};

#if RINGPOST_EXPECTED
template <typename T> using result = std::expected<T, error>;
#else
template <typename T> using result = T;
#endif

/// How long a function waits at most: a duration, or the time until a deadline.
class timeout {
public:
    template <typename Number, typename Period>
    constexpr timeout(std::chrono::duration<Number, Period> longest) noexcept {
        const double ns = std::chrono::duration<double, std::nano>(longest).count();
        if (ns >= 9.2e18) ns_ = INT64_MAX;
        else if (ns > 0) ns_ = std::chrono::duration_cast<std::chrono::nanoseconds>(longest).count();
    }
    timeout(std::chrono::steady_clock::time_point deadline) noexcept {
        const auto now = std::chrono::steady_clock::now();
        if (deadline > now) ns_ = timeout(deadline - now).ns_;
    }
    static constexpr timeout unlimited() noexcept {
        timeout never(std::chrono::nanoseconds(0));
        never.ns_ = -1;
        return never;
    }
    /// As ringpost.h takes it.
    constexpr std::int64_t ns() const noexcept { return ns_; }

private:
    std::int64_t ns_ = 0;
};

/// Does not wait.
inline constexpr timeout at_once = std::chrono::nanoseconds(0);
/// Waits without limit. The wait still ends with the connection.
inline constexpr timeout forever = timeout::unlimited();
/// For what the server answers at once, if it is not stuck.
inline constexpr timeout usual = std::chrono::seconds(5);

/// Bytes that somebody else owns. It does not keep them alive, as std::span.
struct bytes : std::span<const std::byte> {
    using span = std::span<const std::byte>;
    constexpr bytes() noexcept = default;
    bytes(const void *data, std::size_t len) noexcept : span(static_cast<const std::byte *>(data), len) {}
    /// A text, without a NUL.
    bytes(std::string_view text) noexcept : bytes(text.data(), text.size()) {}
    bytes(const std::string &text) noexcept : bytes(text.data(), text.size()) {}
    template <typename Pointer> // no array: the next one looks no further than to its end
        requires(std::same_as<Pointer, const char *> || std::same_as<Pointer, char *>)
    bytes(const Pointer &text) noexcept : bytes(text, std::strlen(text)) {}
    template <std::size_t N> bytes(const char (&text)[N]) noexcept : bytes(text, strnlen(text, N)) {}
    /// All bytes of a range.
    template <typename Range>
        requires(!std::same_as<std::remove_cvref_t<Range>, bytes> &&
                 !std::convertible_to<Range, std::string_view> && std::ranges::contiguous_range<Range> &&
                 std::ranges::sized_range<Range> &&
                 std::is_trivially_copyable_v<std::ranges::range_value_t<Range>>)
    bytes(Range &&range) noexcept
        : bytes(std::ranges::data(range), std::ranges::size(range) * sizeof(std::ranges::range_value_t<Range>)) {}
    /// All bytes of an object, its padding included.
    template <typename T>
        requires std::is_trivially_copyable_v<T>
    static bytes of(const T &object) noexcept {
        return {std::addressof(object), sizeof object};
    }
    /// The bytes as text. Whether it is UTF-8 is for the caller to find out.
    std::string_view text() const noexcept { return {reinterpret_cast<const char *>(data()), size()}; }
    /// A copy as a T, or nothing if the length is not that of a T. Any bytes must be a T: an int, but not a bool.
    template <typename T>
        requires std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T>
    std::optional<T> as() const noexcept {
        if (size() != sizeof(T)) return std::nullopt;
        T object;
        std::memcpy(std::addressof(object), data(), sizeof object);
        return object;
    }
};

/// A text with a NUL at its end. It does not keep the text alive.
class c_text {
public:
    c_text(const char *text) noexcept : text_(text) {}
    c_text(const std::string &text) noexcept : text_(text.c_str()) {}
    const char *get() const noexcept { return text_; }

private:
    const char *text_;
};

/// The path at which servers and clients meet if they name none.
inline const c_text default_path{static_cast<const char *>(nullptr)};

/// A key as text: every function that takes a name takes it as well.
inline std::string to_string(const ringpost_key &key) {
    char text[RINGPOST_KEY_TEXT_SIZE] = {};
    ringpost_key_text(&key, &text);
    return text;
}

namespace detail {

/// What `make` returns, or the failure that `status` says.
template <typename Make> auto of(ringpost_status status, Make make) -> result<std::invoke_result_t<Make>> {
#if RINGPOST_EXPECTED
    if (status != RINGPOST_OK) return std::unexpected(error(status));
#else
    if (status != RINGPOST_OK) throw error(status);
#endif
    return result<std::invoke_result_t<Make>>(make());
}

inline result<void> done(ringpost_status status) {
#if RINGPOST_EXPECTED
    if (status != RINGPOST_OK) return std::unexpected(error(status));
    return {};
#else
    if (status != RINGPOST_OK) throw error(status);
#endif
}

/// As `of`, but nothing if nothing came in time.
template <typename Make>
auto came(ringpost_status status, Make make) -> result<std::optional<std::invoke_result_t<Make>>> {
    using T = std::optional<std::invoke_result_t<Make>>;
    if (status == RINGPOST_TIMED_OUT) return T();
    return of(status, [&] { return T(make()); });
}

/// False if there is no room now.
inline result<bool> fitted(ringpost_status status) {
    if (status == RINGPOST_FULL) return false;
    return of(status, [] { return true; });
}

template <typename Handle, auto Free> struct freer {
    void operator()(Handle *handle) const noexcept { Free(handle); }
};
template <typename Handle, auto Free> using sole = std::unique_ptr<Handle, freer<Handle, Free>>;

/// A handle and its end. `Pointer` is std::shared_ptr where something else must keep the handle alive.
template <typename Handle, auto Free, typename Pointer = sole<Handle, Free>> class owner {
public:
    /// Takes a handle of ringpost.h.
    explicit owner(Handle *handle) : handle_(handle, freer<Handle, Free>()) {}
    owner(owner &&) noexcept = default;
    owner &operator=(owner &&) noexcept = default;
    /// The handle, which stays the object's.
    Handle *get() const noexcept { return handle_.get(); }
    /// Gives the handle up: it is the caller's to end.
    [[nodiscard]] Handle *release() noexcept { return handle_.release(); }

protected:
    ~owner() = default;
    /// After a function that takes the handle, unless it is in use.
    ringpost_status took(ringpost_status status) noexcept {
        if (status != RINGPOST_IN_USE) static_cast<void>(handle_.release());
        return status;
    }
    Pointer handle_;
};

/// An owner with a descriptor for event loops.
template <typename Handle, auto Free, auto Readiness, auto Arm, typename Pointer = sole<Handle, Free>>
class waiting : public owner<Handle, Free, Pointer> {
public:
    using owner<Handle, Free, Pointer>::owner;
    /// The descriptor to wait for. Look until nothing is there, arm, and wait only if that says true.
    RINGPOST_CHECKED result<int> readiness() {
        int fd = -1;
        return of(Readiness(this->get(), &fd), [&] { return fd; });
    }
    /// Says that the program is about to wait. False: something came, so look again.
    [[nodiscard]] result<bool> arm() {
        bool armed = false;
        return of(Arm(this->get(), &armed), [&] { return armed; });
    }
};

} // namespace detail

/// Ends the connection of what it came from. Any thread may use it, at any time.
class closer : public detail::owner<ringpost_closer, ringpost_closer_free> {
public:
    using owner::owner;
    RINGPOST_CHECKED result<void> close() const { return detail::done(ringpost_closer_close(get())); }
};

} // namespace RINGPOST_MODE
} // namespace ringpost

#endif

/* pgaad for C++17 and later: what pgaad.h has, with types that own, exceptions, and std::chrono. Header only: link
 * -lpgaad, and -lpq for the connect functions.
 *
 * The short way: pgaad::connectdb where it was PQconnectdb. Other identities: a pgaad::client of its own settings. What
 * a call means, and how long it waits, stands at the C function of its name in pgaad.h.
 *
 * Strings    go in as pgaad::argument, which is made of a const char *, a std::string or a std::string_view. What
 *            holds a secret comes out as pgaad::secret, all else as std::string.
 * Failures   of pgaad's are thrown: pgaad::error, or what is derived from it. What libpq or the server says no to is
 *            no exception: it stands on the connection (PQstatus, PQerrorMessage), as after PQconnectdb. Lack of memory
 *            is std::bad_alloc. Whatever is thrown, nothing leaks.
 * Threads    Any number of threads may use one client at the same time, which is why all of its functions are const.
 *            Only the end of it is the program's to order: no call may run into its move, assignment or destruction.
 *            The other objects are for one thread at a time, as those of the standard library.
 * libpq      is not needed by programs that connect to nothing: libpq-fe.h never is, and can stand before or after this
 *            file. connection calls PQfinish and PQerrorMessage of the libpq that the program is linked with. A program
 *            that gets its libpq elsewhere (use_libpq) connects by the C functions, with client::get.
 *
 * Left to the C functions, since there is nothing to add: pgaad_version, pgaad_version_number. Left out, since
 * client::default_client() has them: pgaad_get_token, pgaad_connstring, pgaad_connectdb_params, pgaad_connect_start,
 * pgaad_connect_start_params.
 */

#ifndef PGAAD_HPP
#define PGAAD_HPP

#include "pgaad.h"

#if __cplusplus < 201703L
#error "pgaad.hpp needs C++17 or later (-std=c++17)"
#endif

#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <unistd.h>

namespace pgaad {

/**
 * What pgaad fails with. what() is its message, one line that begins with "pgaad: " and never holds a secret.
 *
 * A token callback may throw one as well: the call that needs the token then fails with its status.
 */
class error : public std::runtime_error {
public:
    error(pgaad_status status, const std::string &message) : std::runtime_error(message), status_(status) {}

    /** One of PGAAD_*; a number that a program does not know is a failure like any other. */
    pgaad_status status() const noexcept { return status_; }

    /** Its name, such as "PGAAD_DENIED". Static. */
    const char *name() const noexcept { return pgaad_status_name(status_); }

private:
    pgaad_status status_;
};

/** PGAAD_CONFIG: a setting or an option is to be put right, and what() names it. */
class config_error : public error {
    using error::error;
};

/** PGAAD_UNAVAILABLE: no identity is here, so that a program may go on without one. */
class unavailable_error : public error {
    using error::error;
};

/** PGAAD_DENIED: Entra said no, and will say so again. */
class denied_error : public error {
    using error::error;
};

/** PGAAD_THROTTLED, PGAAD_NETWORK, PGAAD_TIMEOUT: the same call may succeed later. */
class temporary_error : public error {
    using error::error;
};

/** PGAAD_INSECURE: the token would have gone to a stranger or out without TLS, and was not sent. */
class insecure_error : public error {
    using error::error;
};

class client;

namespace detail {

[[noreturn]] inline void fail(pgaad_status status, const std::string &message)
{
    switch (status) {
    case PGAAD_CONFIG:
        throw config_error(status, message);
    case PGAAD_UNAVAILABLE:
        throw unavailable_error(status, message);
    case PGAAD_DENIED:
        throw denied_error(status, message);
    case PGAAD_THROTTLED:
    case PGAAD_NETWORK:
    case PGAAD_TIMEOUT:
        throw temporary_error(status, message);
    case PGAAD_INSECURE:
        throw insecure_error(status, message);
    default:
        throw error(status, message);
    }
}

/* In a way that no compiler leaves out. */
inline void wipe(std::string &text) noexcept
{
    volatile char *bytes = text.data();
    for (std::size_t i = 0; i < text.size(); i++)
        bytes[i] = '\0';
}

/* The functions of libpq's that are needed here, under the types that need no libpq-fe.h. */
extern "C" {
void PQfinish(struct ::pg_conn *conn);
char *PQerrorMessage(const struct ::pg_conn *conn);
}

struct free_string {
    void operator()(char *string) const noexcept { pgaad_free(string); }
};

struct free_client {
    void operator()(pgaad_client *client) const noexcept { pgaad_client_free(client); }
};

struct finish {
    void operator()(struct ::pg_conn *conn) const noexcept { detail::PQfinish(conn); }
};

} // namespace detail

/**
 * A string on its way into a function: a const char * (nullptr is none), a std::string, or a std::string_view. Only the
 * last is copied, and the copy wiped, for C wants its NUL. Text with a NUL byte within is refused with
 * PGAAD_INVALID_ARGUMENT: the rest would be lost.
 *
 * A parameter's type, not one to keep.
 */
class argument {
public:
    argument() noexcept = default;
    argument(const char *text) noexcept : text_(text) {}
    argument(const std::string &text) : text_(whole(text).data()) {}
    argument(std::string_view text) : copy_(whole(text)), text_(copy_.c_str()) {}
    argument(const argument &) = delete;
    argument &operator=(const argument &) = delete;
    ~argument() { detail::wipe(copy_); }

    const char *c_str() const noexcept { return text_; }

private:
    static std::string_view whole(std::string_view text)
    {
        if (text.find('\0') != std::string_view::npos)
            throw error(PGAAD_INVALID_ARGUMENT, "pgaad: A string has a NUL byte within, where C would cut it off.");
        return text;
    }

    std::string copy_;
    const char *text_ = nullptr;
};

/**
 * A string that holds a token or a password. It cannot be copied, compared or printed by accident, and is wiped when it
 * ends. What the program makes of view() is its own to wipe.
 */
class secret {
public:
    /** "" */
    secret() noexcept = default;

    /** Takes what a C function of pgaad's handed out. */
    explicit secret(char *string) noexcept : string_(string) {}

    /** Never nullptr. It ends with this object. */
    const char *c_str() const noexcept { return string_ ? string_.get() : ""; }

    /** The same with its length. */
    std::string_view view() const noexcept { return c_str(); }

    bool empty() const noexcept { return *c_str() == '\0'; }

private:
    std::unique_ptr<char, detail::free_string> string_;
};

/** A token, and until when it is good. */
struct token {
    secret value;
    std::chrono::system_clock::time_point expires_on;
};

/**
 * What a token callback returns: a token of the program's, which is wiped once it has been handed over, and until when
 * it is good. Without a time it is as the token's own claim "exp" says; of both the earlier counts. A std::string is
 * enough, and so is a token of another client.
 */
class answer {
public:
    answer(std::string value, std::chrono::system_clock::time_point expires_on = {})
        : value_(std::move(value)), expires_on_(expires_on)
    {
    }
    answer(const token &other) : value_(other.value.view()), expires_on_(other.expires_on) {}
    answer(answer &&) = default;
    answer &operator=(answer &&) = delete;
    ~answer() { detail::wipe(value_); }

    const std::string &value() const noexcept { return value_; }
    std::chrono::system_clock::time_point expires_on() const noexcept { return expires_on_; }

private:
    std::string value_;
    std::chrono::system_clock::time_point expires_on_;
};

/** A descriptor, closed at its end. */
class descriptor {
public:
    /** None. */
    descriptor() noexcept = default;

    /** Takes it. */
    explicit descriptor(int fd) noexcept : fd_(fd) {}

    descriptor(descriptor &&other) noexcept : fd_(other.release()) {}
    descriptor &operator=(descriptor &&other) noexcept
    {
        const descriptor old(std::exchange(fd_, other.release()));
        return *this;
    }
    ~descriptor()
    {
        if (fd_ >= 0)
            ::close(fd_);
    }

    /** -1: there is none. */
    int get() const noexcept { return fd_; }

    /** Gives it away: the caller closes it. */
    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

private:
    int fd_ = -1;
};

/** A PGconn of libpq's, finished at its end. */
class connection {
public:
    /** None. */
    connection() noexcept = default;

    /** Takes one, wherever it comes from. */
    explicit connection(struct ::pg_conn *conn) noexcept : conn_(conn) {}

    /** For libpq's functions: a PGconn *. nullptr: there is none. */
    struct ::pg_conn *get() const noexcept { return conn_.get(); }

    /** Gives it away: the caller finishes it. */
    [[nodiscard]] struct ::pg_conn *release() noexcept { return conn_.release(); }

    /** Whether there is one. Whether it is good, PQstatus says. */
    explicit operator bool() const noexcept { return conn_ != nullptr; }

    /**
     * PQreset with a fresh token, by the identity that opened it. get() may be another one afterwards. Returns when it
     * was tried: see PQstatus.
     */
    void reset();

    /** The same by this client, whoever opened it. */
    void reset(const client &by);

private:
    template <class Reset> void reset_by(Reset call);

    std::unique_ptr<struct ::pg_conn, detail::finish> conn_;
};

/** A libpq, as libpq() finds it. */
struct libpq_library {
    /** As PQlibVersion: 150018. */
    int version;
    /** The file that it is in. */
    std::string path;
};

namespace detail {

/* Where a C function puts its message, and what becomes of it. */
class errmsg {
public:
    errmsg() noexcept = default;
    errmsg(const errmsg &) = delete;
    errmsg &operator=(const errmsg &) = delete;
    ~errmsg() { pgaad_free(text_); }

    char **out() noexcept { return &text_; }

    void check(pgaad_status status) const
    {
        if (status == PGAAD_OK)
            return;
        if (text_ == nullptr)
            throw std::bad_alloc();
        fail(status, text_);
    }

private:
    char *text_ = nullptr;
};

/* Rounded up, and as much of it as an int holds; a time that is over allows none. */
template <class Rep, class Period> int milliseconds(std::chrono::duration<Rep, Period> time) noexcept
{
    const double exact = std::chrono::duration<double, std::milli>(time).count();
    if (!(exact > 0))
        return 0;
    if (exact >= INT_MAX)
        return INT_MAX;
    const int whole = static_cast<int>(exact);
    return whole < exact ? whole + 1 : whole;
}

inline std::chrono::system_clock::time_point time_point(std::int64_t unix_seconds) noexcept
{
    using time = std::chrono::system_clock::time_point;
    const std::chrono::seconds most = std::chrono::floor<std::chrono::seconds>(time::max().time_since_epoch());
    return unix_seconds < most.count() ? time(std::chrono::seconds(unix_seconds)) : time::max();
}

inline std::int64_t unix_seconds(std::chrono::system_clock::time_point time) noexcept
{
    return std::chrono::floor<std::chrono::seconds>(time.time_since_epoch()).count();
}

/* A std::string of a string that is the caller's to give back. */
inline std::string taken(char *string)
{
    const std::unique_ptr<char, free_string> owner(string);
    return string;
}

/* The callback as C calls it. Nothing is thrown into C. */
template <class Fetch> void fetch(void *userdata, const char *scope, int timeout_ms, pgaad_answer *place) noexcept
{
    try {
        const std::chrono::milliseconds timeout(timeout_ms);
        const answer got = (*static_cast<Fetch *>(userdata))(std::string_view(scope), timeout);
        pgaad_answer_token(place, argument(got.value()).c_str(), unix_seconds(got.expires_on()));
    } catch (const error &failure) {
        // What the message begins with is put before the new one again.
        constexpr std::string_view ours = "pgaad: ";
        const char *message = failure.what();
        const bool begins = std::string_view(message).substr(0, ours.size()) == ours;
        pgaad_answer_error(place, failure.status(), begins ? message + ours.size() : message);
    } catch (const std::exception &failure) {
        pgaad_answer_error(place, PGAAD_UNAVAILABLE, failure.what());
    } catch (...) {
        pgaad_answer_error(place, PGAAD_UNAVAILABLE, "it threw what is no std::exception.");
    }
}

template <class Fetch> void release(void *userdata) noexcept
{
    delete static_cast<Fetch *>(userdata);
}

/* Keywords and values as libpq wants them. */
class arrays {
public:
    template <class Options> explicit arrays(const Options &options)
    {
        using reference = decltype(*std::begin(options));
        static_assert(std::is_lvalue_reference_v<reference>, "the strings must outlive the call");
        for (const auto &[keyword, value] : options) {
            keywords_.push_back(c_str(keyword));
            values_.push_back(c_str(value));
        }
        keywords_.push_back(nullptr);
        values_.push_back(nullptr);
    }

    const char *const *keywords() const noexcept { return keywords_.data(); }
    const char *const *values() const noexcept { return values_.data(); }

private:
    template <class Text> static const char *c_str(const Text &text)
    {
        using type = std::decay_t<Text>;
        constexpr bool is_string = std::is_same_v<type, std::string>;
        static_assert(is_string || std::is_same_v<type, const char *> || std::is_same_v<type, char *>,
                      "keywords and values are std::string or char *; what is made of anything else would not last");
        if constexpr (is_string)
            return argument(text).c_str();
        else
            return text;
    }

    std::vector<const char *> keywords_, values_;
};

using options = std::initializer_list<std::pair<const char *, const char *>>;

} // namespace detail

/**
 * Which libpq is in use, or would be at the next connect. Throws PGAAD_LIBPQ where there is none, and why.
 */
[[nodiscard]] inline libpq_library libpq()
{
    detail::errmsg why;
    int version;
    char *path;
    why.check(pgaad_libpq(&version, &path, why.out()));
    return {version, detail::taken(path)};
}

/**
 * For programs with a static, private or second libpq: names the one whose PGconn they use. To be called before the
 * first connect.
 *
 * resolve: void *(const char *symbol), nullptr for what it does not know; called only before this returns. What it
 * throws is thrown here.
 */
template <class Resolve> void use_libpq(Resolve &&resolve)
{
    struct state {
        std::remove_reference_t<Resolve> &resolve;
        std::exception_ptr thrown;
    } all{resolve, nullptr};
    detail::errmsg why;
    const auto call = [](const char *symbol, void *userdata) noexcept -> void * {
        state &known = *static_cast<state *>(userdata);
        try {
            return known.thrown ? nullptr : known.resolve(symbol);
        } catch (...) {
            known.thrown = std::current_exception();
            return nullptr;
        }
    };
    const pgaad_status status = pgaad_use_libpq(call, &all, why.out());
    if (all.thrown)
        std::rethrow_exception(all.thrown);
    why.check(status);
}

/**
 * For libpq 18 and later: servers that ask for OAUTHBEARER get the token as well. To be called once, before the first
 * connect; later calls do nothing. Throws PGAAD_LIBPQ where libpq is older.
 */
inline void use_oauth()
{
    detail::errmsg why;
    why.check(pgaad_use_oauth(why.out()));
}

namespace detail {

/* What pgaad itself says no to, as an exception; what libpq or the server does, on the connection. */
inline connection opened(struct ::pg_conn *conn)
{
    connection made(conn);
    if (!made) {
        // libpq() says why there is none; else it was memory.
        static_cast<void>(libpq());
        throw std::bad_alloc();
    }
    if (const pgaad_status status = pgaad_connection_status(conn)) {
        std::string message = detail::PQerrorMessage(conn);
        message.erase(message.find_last_not_of('\n') + 1);
        fail(status, message);
    }
    return made;
}

} // namespace detail

/**
 * One identity with its settings and its tokens. Any number of threads may use one client at the same time.
 *
 * A client that was moved from is none: its functions throw PGAAD_INVALID_ARGUMENT. Strings and connections taken from
 * a client stay valid when it ends.
 */
class client {
public:
    /**
     * Makes a client of its own settings, such as "tenant_id=... client_id=... client_secret_file=/run/secrets/db";
     * what they leave out comes from the environment. Sends nothing yet.
     */
    explicit client(argument settings = {})
    {
        detail::errmsg why;
        pgaad_client *made;
        why.check(pgaad_client_new(settings.c_str(), &made, why.out()));
        client_.reset(made);
    }

    /**
     * Makes a client whose tokens the program itself supplies. Entra is on for every connection of such a client.
     *
     * fetch: called as fetch(std::string_view scope, std::chrono::milliseconds timeout), returns a pgaad::answer or
     * what one is made of: a std::string, or a token of another client. It is called on the thread of a call that needs
     * a token, under callback_thread=any also on others, one call at a time; it must not use its own client. What it
     * throws is what the call that needs the token fails with: a pgaad::error with its status, any other exception as
     * PGAAD_UNAVAILABLE, what() being the reason: no secrets there. It is destroyed once the client is gone and no call
     * of it runs, on any thread.
     */
    template <class Fetch> client(argument settings, Fetch fetch)
    {
        static_assert(std::is_invocable_r_v<answer, Fetch &, std::string_view, std::chrono::milliseconds>,
                      "fetch(std::string_view scope, std::chrono::milliseconds timeout) returns a pgaad::answer");
        detail::errmsg why;
        pgaad_client *made;
        auto kept = std::make_unique<Fetch>(std::move(fetch));
        why.check(pgaad_client_new_callback(settings.c_str(), detail::fetch<Fetch>, kept.get(), detail::release<Fetch>,
                                            &made, why.out()));
        static_cast<void>(kept.release());
        client_.reset(made);
    }

    /**
     * The client of the functions that take none, made from the environment at first use. It belongs to the library:
     * what ends is only this handle. A first use that fails is not remembered.
     */
    [[nodiscard]] static client default_client()
    {
        detail::errmsg why;
        pgaad_client *made;
        why.check(pgaad_client_default(&made, why.out()));
        return client(at_hand(), made);
    }

    /** For the C functions. nullptr: it was moved from. */
    pgaad_client *get() const noexcept { return client_.get(); }

    /**
     * Gets a token for the database, from memory while it is fresh, else from wherever the identity has its tokens.
     * Waits up to the setting timeout_ms. Needs no libpq.
     */
    [[nodiscard]] token get_token() const { return get_token_within(-1); }

    /**
     * The same for a caller who waits no longer than this: any duration, rounded up to milliseconds. 0 or less: a token
     * that is here already, else PGAAD_TIMEOUT.
     */
    template <class Rep, class Period> [[nodiscard]] token get_token(std::chrono::duration<Rep, Period> timeout) const
    {
        return get_token_within(detail::milliseconds(timeout));
    }

    /** The user that the identity is to the database, as its token says. Needs no libpq. */
    [[nodiscard]] std::string user() const
    {
        detail::errmsg why;
        char *user;
        why.check(pgaad_client_get_user(get(), &user, why.out()));
        return detail::taken(user);
    }

    /**
     * A conninfo string for libpq, and for what is built on it (libpqxx): the caller's options, and, where Entra is on
     * for this server, a token as password and what keeps it safe. Needs no libpq.
     */
    [[nodiscard]] secret connstring(argument conninfo = {}) const
    {
        detail::errmsg why;
        char *connstring;
        why.check(pgaad_client_connstring(get(), conninfo.c_str(), &connstring, why.out()));
        return secret(connstring);
    }

    /** PQconnectdb, signed in with Entra where it is on for this server. */
    [[nodiscard]] connection connectdb(argument conninfo = {}) const
    {
        return detail::opened(pgaad_client_connectdb(get(), conninfo.c_str()));
    }

    /** PQconnectdbParams, likewise; the arrays are read as libpq reads them. */
    [[nodiscard]] connection connectdb_params(const char *const *keywords, const char *const *values,
                                              bool expand_dbname = false) const
    {
        return detail::opened(pgaad_client_connectdb_params(get(), keywords, values, expand_dbname));
    }

    /**
     * The same for {{"host", "..."}, {"dbname", name.c_str()}}, or for a container of pairs, such as a std::map, of
     * std::string or const char *.
     */
    template <class Options = detail::options>
    [[nodiscard]] connection connectdb_params(const Options &options, bool expand_dbname = false) const
    {
        const detail::arrays arrays(options);
        return connectdb_params(arrays.keywords(), arrays.values(), expand_dbname);
    }

    /**
     * PQconnectStart, likewise; the caller goes on with PQconnectPoll. From the first prefetch() on it never waits for
     * a token: where none is here, it throws.
     */
    [[nodiscard]] connection connect_start(argument conninfo = {}) const
    {
        return detail::opened(pgaad_client_connect_start(get(), conninfo.c_str()));
    }

    /** PQconnectStartParams, likewise. */
    [[nodiscard]] connection connect_start_params(const char *const *keywords, const char *const *values,
                                                  bool expand_dbname = false) const
    {
        return detail::opened(pgaad_client_connect_start_params(get(), keywords, values, expand_dbname));
    }

    /** The same for pairs, as connectdb_params takes them. */
    template <class Options = detail::options>
    [[nodiscard]] connection connect_start_params(const Options &options, bool expand_dbname = false) const
    {
        const detail::arrays arrays(options);
        return connect_start_params(arrays.keywords(), arrays.values(), expand_dbname);
    }

    /**
     * Drops the client's tokens, in this process and in a shared cache. The default client also reads its environment
     * anew.
     */
    void invalidate() const
    {
        detail::errmsg why;
        why.check(pgaad_client_invalidate(get(), why.out()));
    }

    /**
     * For event loops: makes sure that a token is there or under way, and never waits. The descriptor becomes readable,
     * and stays so, when a token is there or none could be had; it is to be taken out of an epoll set before it ends.
     */
    [[nodiscard]] descriptor prefetch() const
    {
        detail::errmsg why;
        int fd;
        why.check(pgaad_client_prefetch(get(), &fd, why.out()));
        return descriptor(fd);
    }

    /** What the client has, did and failed with, as one JSON object. Never a secret. */
    [[nodiscard]] std::string stats() const
    {
        detail::errmsg why;
        char *json;
        why.check(pgaad_client_stats(get(), &json, why.out()));
        return detail::taken(json);
    }

private:
    struct at_hand {};
    client(at_hand, pgaad_client *made) noexcept : client_(made) {}

    token get_token_within(int timeout_ms) const
    {
        detail::errmsg why;
        char *value;
        std::int64_t expires_on;
        why.check(pgaad_client_get_token(get(), timeout_ms, &value, &expires_on, why.out()));
        return {secret(value), detail::time_point(expires_on)};
    }

    std::unique_ptr<pgaad_client, detail::free_client> client_;
};

template <class Reset> void connection::reset_by(Reset call)
{
    detail::errmsg why;
    struct ::pg_conn *conn = conn_.release();
    const pgaad_status status = call(&conn, why.out());
    conn_.reset(conn);
    why.check(status);
}

inline void connection::reset()
{
    reset_by(pgaad_reset);
}

inline void connection::reset(const client &by)
{
    reset_by([&by](struct ::pg_conn **conn, char **errmsg) { return pgaad_client_reset(by.get(), conn, errmsg); });
}

/** PQconnectdb by the default client, signed in with Entra where it is on for this server. */
[[nodiscard]] inline connection connectdb(argument conninfo = {})
{
    return detail::opened(pgaad_connectdb(conninfo.c_str()));
}

} // namespace pgaad

#endif // PGAAD_HPP

/* Compiled by tests/suite/cpp.rs with second.cpp: everything in pgaad.hpp, here before libpq-fe.h.
 *
 *   cover CASE [ARGUMENT]
 */
#include <pgaad.hpp>

#include <libpq-fe.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <thread>

#include "second.hpp"

using namespace std::chrono_literals;
using std::chrono::system_clock;

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1); \
        } \
    } while (false)

// What is freed is looked through for this.
static const char marker[] = "a-marker-that-is-to-be-wiped-wherever-it-was";
static std::atomic<int> left_behind;

static void look_through(const void *block)
{
    if (block != nullptr &&
        memmem(block, malloc_usable_size(const_cast<void *>(block)), marker, sizeof marker - 1) != nullptr)
        left_behind++;
}

void *operator new(std::size_t size)
{
    if (void *block = std::calloc(1, size ? size : 1))
        return block;
    throw std::bad_alloc();
}

void operator delete(void *block) noexcept
{
    look_through(block);
    std::free(block);
}

void operator delete(void *block, std::size_t) noexcept
{
    operator delete(block);
}

/* The failure that a call throws, by its own type. */
template <class Error = pgaad::error, class Call> static Error failure(Call call)
{
    try {
        call();
    } catch (const Error &error) {
        CHECK(typeid(error) == typeid(Error));
        CHECK(std::string_view(error.what()).substr(0, 7) == "pgaad: ");
        return error;
    }
    std::fprintf(stderr, "nothing was thrown\n");
    std::exit(1);
}

template <class Call> static pgaad_status status_of(Call call)
{
    try {
        call();
        return PGAAD_OK;
    } catch (const pgaad::error &error) {
        return error.status();
    }
}

static std::string value(const pgaad::connection &conn, const char *sql)
{
    PGresult *result = PQexec(conn.get(), sql);
    std::string value =
        PQresultStatus(result) == PGRES_TUPLES_OK ? PQgetvalue(result, 0, 0) : PQerrorMessage(conn.get());
    PQclear(result);
    return value;
}

static bool is_good(const pgaad::connection &conn)
{
    return PQstatus(conn.get()) == CONNECTION_OK && value(conn, "select current_user") == std::getenv("PGUSER");
}

static std::string_view text_of(const pgaad::token &token)
{
    return token.value.view();
}

/* The token service says for how long it is good, the token until when. */
static bool is_about(system_clock::time_point one, system_clock::time_point other)
{
    return one - other <= 3s && other - one <= 3s;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) != -1;
}

/* What the compiler can check. */

template <class T> constexpr bool owns =
    std::is_nothrow_default_constructible_v<T> && std::is_nothrow_move_constructible_v<T> &&
    std::is_nothrow_move_assignable_v<T> && !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T>;

static_assert(owns<pgaad::secret> && owns<pgaad::descriptor> && owns<pgaad::connection>);
static_assert(std::is_nothrow_move_constructible_v<pgaad::client> && std::is_nothrow_move_assignable_v<pgaad::client>);
static_assert(!std::is_copy_constructible_v<pgaad::client> && !std::is_copy_assignable_v<pgaad::client>);
static_assert(!std::is_convertible_v<const char *, pgaad::client> && !std::is_convertible_v<char *, pgaad::secret>);
static_assert(std::is_nothrow_move_constructible_v<pgaad::token> && !std::is_copy_constructible_v<pgaad::token>);
static_assert(!std::is_copy_constructible_v<pgaad::answer>);
static_assert(!std::is_copy_constructible_v<pgaad::argument> && !std::is_move_constructible_v<pgaad::argument>);
static_assert(!std::is_convertible_v<pgaad::secret, std::string> &&
              !std::is_convertible_v<pgaad::secret, const char *>);
static_assert(!std::is_convertible_v<pgaad::secret, std::string_view> &&
              !std::is_convertible_v<pgaad::connection, bool>);
static_assert(std::is_nothrow_copy_constructible_v<pgaad::error>);
static_assert(std::is_base_of_v<std::runtime_error, pgaad::error> &&
              std::is_base_of_v<pgaad::error, pgaad::temporary_error>);
static_assert(std::is_same_v<decltype(pgaad::token::expires_on), system_clock::time_point>);

/* Cases. */

static void arguments()
{
    const std::string text = marker;
    const std::string_view view = text;
    CHECK(pgaad::argument().c_str() == nullptr);
    CHECK(pgaad::argument(nullptr).c_str() == nullptr);
    CHECK(pgaad::argument(marker).c_str() == marker);
    CHECK(pgaad::argument(text).c_str() == text.c_str());
    const int before = left_behind;
    {
        const pgaad::argument whole(view), part(view.substr(2, 6)), none{std::string_view()};
        CHECK(whole.c_str() != text.c_str() && whole.c_str() == text);
        CHECK(part.c_str() == std::string("marker"));
        CHECK(none.c_str() == std::string());
    }
    CHECK(left_behind == before);
    {
        // The search works.
        std::string copy(view);
    }
    CHECK(left_behind == before + 1);

    const std::string cut = std::string("auth=off\0client_id=x", 20);
    for (const auto &call : std::initializer_list<std::function<void()>>{
             [&] { pgaad::client client(cut); },
             [&] { pgaad::client client{std::string_view(cut)}; },
             [&] { (void) pgaad::client("auth=off").connstring(cut); },
             [&] {
                 (void) pgaad::client("auth=off").connectdb_params(std::map<std::string, std::string>{{"host", cut}});
             },
         })
        CHECK(failure(call).status() == PGAAD_INVALID_ARGUMENT);
    // As in C, nullptr and "" are the environment alone.
    CHECK(status_of([] { pgaad::client client(nullptr); }) == PGAAD_OK);
    CHECK(status_of([] { pgaad::client client(""); }) == PGAAD_OK);
    CHECK(status_of([] { pgaad::client client; }) == PGAAD_OK);
    CHECK(failure<pgaad::config_error>([] { pgaad::client client("clientid=x"); }).name() ==
          std::string("PGAAD_CONFIG"));
    CHECK(status_of([] { pgaad::client client("tenant_id=\xff"); }) == PGAAD_INVALID_ARGUMENT);
}

static void secrets()
{
    const pgaad::client client;
    pgaad::secret one;
    CHECK(one.empty() && one.c_str() == std::string() && one.view().empty());
    one = client.connstring("application_name=cover");
    const char *place = one.c_str();
    CHECK(!one.empty() && one.view().find("application_name='cover'") != std::string_view::npos);
    pgaad::secret two = std::move(one);
    CHECK(two.c_str() == place && one.empty());
    one = std::move(two);
    CHECK(one.c_str() == place && two.empty());
    one = client.get_token().value;
    CHECK(one.view() == client.get_token().value.view());
    // What C functions hand out can be put into one.
    char *handed_out;
    CHECK(pgaad_get_token(&handed_out, nullptr) == PGAAD_OK);
    CHECK(pgaad::secret(handed_out).view().size() == one.view().size());
}

/* A text that is not in memory as it is. */
static std::string hidden(std::string_view text)
{
    std::string other(text);
    for (char &c : other)
        c ^= '\x55';
    return other;
}

/* Whether it is somewhere in what this process can write to. */
static bool is_in_memory(const std::string &wanted)
{
    std::FILE *maps = std::fopen("/proc/self/maps", "r");
    const pgaad::descriptor mem(open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
    CHECK(maps != nullptr && mem.get() >= 0);
    static char part[1 << 16], line[512];
    bool found = false;
    const auto is_it = [&](const char *at) {
        for (std::size_t i = 0; i < wanted.size(); i++)
            if ((at[i] ^ '\x55') != wanted[i])
                return false;
        return true;
    };
    while (std::fgets(line, sizeof line, maps) != nullptr) {
        unsigned long from, to;
        char mode[5];
        if (std::sscanf(line, "%lx-%lx %4s", &from, &to, mode) != 3 || std::strncmp(mode, "rw", 2) != 0)
            continue;
        // Each part begins with the end of the one before it.
        for (unsigned long next = from; next < to; next += sizeof part - wanted.size()) {
            const ssize_t got = pread(mem.get(), part, std::min(sizeof part, to - next), static_cast<off_t>(next));
            for (ssize_t i = 0; i + static_cast<ssize_t>(wanted.size()) <= got; i++)
                found = found || is_it(part + i);
            std::memset(part, 0, sizeof part);
        }
    }
    std::fclose(maps);
    return found;
}

static void wiping()
{
    std::string end_of_token;
    {
        const pgaad::client client;
        const pgaad::token token = client.get_token();
        end_of_token = hidden(token.value.view().substr(token.value.view().size() - 40));
        const pgaad::secret connstring = client.connstring();
        const pgaad::client relay("", [&](std::string_view, auto) { return client.get_token(); });
        CHECK(text_of(relay.get_token()) == token.value.view());
        const pgaad::client copies("", [&](std::string_view, auto) { return std::string(token.value.view()); });
        CHECK(text_of(copies.get_token()) == token.value.view());
        CHECK(is_in_memory(end_of_token));
    }
    CHECK(!is_in_memory(end_of_token));
}

static void clients()
{
    pgaad::client one("auth=off"), two;
    CHECK(failure([&] { (void) one.get_token(); }).status() == PGAAD_DISABLED);
    pgaad_client *place = two.get();
    one = std::move(two);
    CHECK(one.get() == place && two.get() == nullptr);
    CHECK(!one.get_token().value.empty());
    // One that was moved from is none.
    for (const auto &call : std::initializer_list<std::function<void()>>{
             [&] { (void) two.get_token(); },
             [&] { (void) two.get_token(1s); },
             [&] { (void) two.user(); },
             [&] { (void) two.connstring(); },
             [&] { (void) two.connectdb(); },
             [&] { (void) two.connectdb_params({{"host", "localhost"}}); },
             [&] { (void) two.connect_start(); },
             [&] { (void) two.connect_start_params({{"host", "localhost"}}); },
             [&] { two.invalidate(); },
             [&] { (void) two.prefetch(); },
             [&] { (void) two.stats(); },
         })
        CHECK(failure(call).status() == PGAAD_INVALID_ARGUMENT);
    two = std::move(one);
    const std::string stats = two.stats();
    CHECK(stats.front() == '{' && stats.back() == '}' && stats.find("client_secret") != std::string::npos);
    CHECK(stats.find(two.get_token().value.view()) == std::string::npos);
    const pgaad::token before = two.get_token();
    two.invalidate();
    CHECK(two.get_token().value.view() != before.value.view());
    // The token of an application has no user's name.
    const auto nobody = failure<pgaad::config_error>([&] { (void) two.user(); });
    CHECK(std::string_view(nobody.what()).find("Set user") != std::string_view::npos);
    // Text that was taken outlives its client.
    pgaad::token kept;
    {
        const pgaad::client three;
        kept = three.get_token();
    }
    CHECK(!kept.value.empty());
}

static void default_client()
{
    pgaad_client *place;
    {
        const pgaad::client one = pgaad::client::default_client();
        place = one.get();
        CHECK(!one.get_token().value.empty());
    }
    const pgaad::client two = pgaad::client::default_client();
    CHECK(two.get() == place);
    CHECK(!two.get_token(0s).value.empty());
    CHECK(is_good(pgaad::connectdb()));
    CHECK(is_good(pgaad::connectdb("application_name=cover")));
    setenv("PGAAD_CLIENT_SECRET", "wrong", 1);
    two.invalidate();
    CHECK(failure<pgaad::denied_error>([] { (void) pgaad::connectdb(); }).status() == PGAAD_DENIED);
    setenv("PGAAD_AUTH", "nonsense", 1);
    CHECK(failure<pgaad::config_error>([&] { two.invalidate(); }).status() == PGAAD_CONFIG);
    CHECK(failure<pgaad::config_error>([] { (void) pgaad::connectdb(); }).status() == PGAAD_CONFIG);
}

static void times()
{
    using pgaad::detail::milliseconds;
    CHECK(milliseconds(0s) == 0 && milliseconds(-1s) == 0 && milliseconds(std::chrono::hours::min()) == 0);
    CHECK(milliseconds(1ns) == 1 && milliseconds(1ms) == 1 && milliseconds(1001us) == 2 && milliseconds(2s) == 2000);
    CHECK(milliseconds(std::chrono::duration<double>(0.0005)) == 1);
    CHECK(milliseconds(std::chrono::duration<double>(std::nan(""))) == 0);
    CHECK(milliseconds(std::chrono::milliseconds(INT_MAX)) == INT_MAX);
    CHECK(milliseconds(std::chrono::milliseconds(INT_MAX) - 1ns) == INT_MAX);
    CHECK(milliseconds(std::chrono::hours::max()) == INT_MAX &&
          milliseconds(std::chrono::nanoseconds::max()) == INT_MAX);
    using pgaad::detail::time_point;
    CHECK(time_point(0) == system_clock::time_point() && time_point(INT64_MAX) == system_clock::time_point::max());
    CHECK(pgaad::detail::unix_seconds(time_point(1700000000)) == 1700000000);
    CHECK(pgaad::detail::unix_seconds(system_clock::time_point(-1ms)) == -1);

    const pgaad::client client;
    CHECK(failure<pgaad::temporary_error>([&] { (void) client.get_token(0s); }).status() == PGAAD_TIMEOUT);
    CHECK(failure<pgaad::temporary_error>([&] { (void) client.get_token(-5min); }).status() == PGAAD_TIMEOUT);
    const pgaad::token token = client.get_token(std::chrono::hours::max());
    CHECK(token.expires_on > system_clock::now() && token.expires_on < system_clock::now() + 24h);
    CHECK(client.get_token(0s).value.view() == token.value.view());
    CHECK(client.get_token(-1ns).expires_on == token.expires_on);
}

/* A callback that counts its copies that live, and what was asked for. */
struct counting {
    static std::atomic<int> alive;
    const std::string answer;

    explicit counting(std::string text) : answer(std::move(text)) { alive++; }
    counting(counting &&other) : answer(other.answer) { alive++; }
    ~counting() { alive--; }
    std::string operator()(std::string_view scope, std::chrono::milliseconds timeout)
    {
        CHECK(scope == "https://ossrdbms-aad.database.windows.net/.default");
        CHECK(timeout > 0ms && timeout <= 100s);
        return answer;
    }
};
std::atomic<int> counting::alive;

static std::string the_token;

static std::string plain_function(std::string_view, std::chrono::milliseconds)
{
    return the_token;
}

static void callbacks()
{
    const pgaad::client source;
    const pgaad::token good = source.get_token();
    the_token = good.value.view();
    {
        pgaad::client client("timeout_ms=100000", counting(the_token));
        CHECK(counting::alive == 1);
        const pgaad::token token = client.get_token();
        CHECK(token.value.view() == the_token && is_about(token.expires_on, good.expires_on));
        CHECK(is_good(client.connectdb()));
        const pgaad::client moved = std::move(client);
        CHECK(counting::alive == 1 && moved.get_token().value.view() == the_token);
    }
    CHECK(counting::alive == 0);
    // A client that could not be made destroys it as well, once.
    CHECK(failure<pgaad::config_error>([] { pgaad::client client("nonsense=1", counting("")); }).status() ==
          PGAAD_CONFIG);
    CHECK(counting::alive == 0);
    {
        // It is told how long the caller waits.
        std::chrono::milliseconds told{};
        const pgaad::client client("", [&](std::string_view, std::chrono::milliseconds timeout) {
            told = timeout;
            return the_token;
        });
        (void) client.get_token(7s);
        CHECK(told > 0ms && told <= 7s);
    }
    // Whatever can be called.
    CHECK(text_of(pgaad::client("", plain_function).get_token()) == the_token);
    CHECK(text_of(pgaad::client(
                      "", std::function<std::string(std::string_view, std::chrono::milliseconds)>(plain_function))
                      .get_token()) == the_token);
    auto only_moves = std::make_unique<std::string>(the_token);
    CHECK(text_of(pgaad::client("", [text = std::move(only_moves)](std::string_view, auto) {
                      return *text;
                  }).get_token()) == the_token);
    // With a time, the earlier of both; and another client's.
    const auto soon = std::chrono::floor<std::chrono::seconds>(system_clock::now()) + 20min;
    const pgaad::client timed("", [&](std::string_view, auto) { return pgaad::answer(the_token, soon); });
    CHECK(timed.get_token().expires_on == soon);
    const pgaad::client relay("", [&](std::string_view, auto timeout) { return source.get_token(timeout); });
    CHECK(text_of(relay.get_token()) == the_token && is_about(relay.get_token().expires_on, good.expires_on));
    const pgaad::client named("", [&](std::string_view, auto) {
        pgaad::answer answer(the_token);
        CHECK(answer.value() == the_token && answer.expires_on() == system_clock::time_point());
        return answer;
    });
    CHECK(text_of(named.get_token()) == the_token);
    // An expired one is none; nor is one that is no token, or cut.
    const pgaad::client old(
        "", [&](std::string_view, auto) { return pgaad::answer(the_token, system_clock::now() - 1min); });
    CHECK(failure([&] { (void) old.get_token(); }).status() == PGAAD_PROTOCOL);
    const pgaad::client empty("", [](std::string_view, auto) { return std::string(); });
    CHECK(failure([&] { (void) empty.get_token(); }).status() == PGAAD_PROTOCOL);
    const pgaad::client cut("", [](std::string_view, auto) { return the_token + '\0' + "more"; });
    CHECK(failure([&] { (void) cut.get_token(); }).status() == PGAAD_INVALID_ARGUMENT);
    // What it returned is wiped.
    const int before = left_behind;
    const pgaad::client marked("", [](std::string_view, auto) { return std::string(marker); });
    CHECK(status_of([&] { (void) marked.get_token(); }) != PGAAD_INTERNAL);
    CHECK(left_behind == before);
    // Its own client is not for it to ask.
    pgaad::client *self = nullptr;
    pgaad::client own("", [&](std::string_view, auto) { return self->get_token(); });
    self = &own;
    CHECK(failure([&] { (void) own.get_token(); }).status() == PGAAD_INVALID_ARGUMENT);
    // On a thread that it has never seen, at most one at a time.
    std::atomic<bool> elsewhere{false};
    const pgaad::client any("callback_thread=any", [&, here = std::this_thread::get_id()](std::string_view, auto) {
        elsewhere = std::this_thread::get_id() != here;
        return the_token;
    });
    const pgaad::descriptor ready = any.prefetch();
    pollfd wait{ready.get(), POLLIN, 0};
    CHECK(poll(&wait, 1, -1) == 1 && elsewhere);
    CHECK(text_of(any.get_token(0s)) == the_token);
}

template <class Error> static void status(pgaad_status status)
{
    const pgaad::client client("", [&](std::string_view, auto) -> std::string {
        throw pgaad::error(status, "pgaad: no luck.");
    });
    const auto thrown = failure<Error>([&] { (void) client.get_token(); });
    CHECK(thrown.status() == status && thrown.name() == std::string(pgaad_status_name(status)));
    CHECK(thrown.what() == std::string("pgaad: The token callback failed: no luck."));
    CHECK(failure<Error>([&] { (void) client.connstring("host=localhost user=x"); }).status() == status);
    CHECK(failure<Error>([&] { (void) client.connectdb("host=localhost user=x"); }).what() ==
          std::string(thrown.what()));
    // Of one unit caught in another.
    CHECK(caught_elsewhere([&] { (void) client.get_token(); }) == status);
}

template <class Thrown> static std::string reason(Thrown thrown)
{
    const pgaad::client client("", [&](std::string_view, auto) -> std::string { throw thrown; });
    const auto error = failure<pgaad::unavailable_error>([&] { (void) client.get_token(); });
    CHECK(error.status() == PGAAD_UNAVAILABLE);
    return error.what();
}

static void statuses()
{
    using namespace pgaad;
    status<error>(PGAAD_INVALID_ARGUMENT);
    status<config_error>(PGAAD_CONFIG);
    status<error>(PGAAD_DISABLED);
    status<unavailable_error>(PGAAD_UNAVAILABLE);
    status<denied_error>(PGAAD_DENIED);
    status<temporary_error>(PGAAD_THROTTLED);
    status<temporary_error>(PGAAD_NETWORK);
    status<temporary_error>(PGAAD_TIMEOUT);
    status<error>(PGAAD_PROTOCOL);
    status<insecure_error>(PGAAD_INSECURE);
    status<error>(PGAAD_LIBPQ);
    status<error>(PGAAD_INTERNAL);
    // No status of a failure.
    for (pgaad_status wrong : {PGAAD_OK, 13, -1}) {
        const client none("", [=](std::string_view, auto) -> std::string { throw error(wrong, "x"); });
        CHECK(failure([&] { (void) none.get_token(); }).status() == PGAAD_PROTOCOL);
    }
    // Whatever else is thrown stays this side of C.
    CHECK(reason(std::runtime_error("the vault is\nsealed.")) ==
          "pgaad: The token callback failed: the vault is sealed.");
    CHECK(reason(std::bad_alloc()) == std::string("pgaad: The token callback failed: ") + std::bad_alloc().what());
    CHECK(reason(42) == "pgaad: The token callback failed: it threw what is no std::exception.");
    const client none("", std::function<std::string(std::string_view, std::chrono::milliseconds)>());
    CHECK(failure<unavailable_error>([&] { (void) none.get_token(); }).status() == PGAAD_UNAVAILABLE);
    // A failure of a client that another one asks is told as it is, once.
    const client inner(
        "", [](std::string_view, auto) -> std::string { throw temporary_error(PGAAD_NETWORK, "pgaad: down."); });
    const client outer("", [&](std::string_view, auto) { return inner.get_token(); });
    CHECK(failure<temporary_error>([&] { (void) outer.get_token(); }).what() ==
          std::string("pgaad: The token callback failed: The token callback failed: down."));
}

static void connections()
{
    const pgaad::client client;
    pgaad::connection none;
    CHECK(!none && none.get() == nullptr && none.release() == nullptr);
    CHECK(failure([&] { none.reset(); }).status() == PGAAD_INVALID_ARGUMENT && !none);

    pgaad::connection conn = client.connectdb();
    CHECK(conn && is_good(conn) && is_good(client.connectdb(std::string("application_name=cover"))));
    PGconn *place = conn.get();
    none = std::move(conn);
    CHECK(!conn && none.get() == place && is_good(none));
    conn = pgaad::connection(none.release());
    CHECK(!none && conn.get() == place);

    const char *const keywords[] = {"application_name", "dbname", nullptr}, *const values[] = {"cover", "user=nobody",
                                                                                               nullptr};
    const auto by_name = [](const pgaad::connection &one) {
        return is_good(one) && value(one, "show application_name") == "cover";
    };
    const std::map<std::string, std::string> map{{"application_name", "cover"}, {"dbname", "postgres"}};
    const std::vector<std::pair<const char *, std::string>> pairs(map.size(), {"application_name", "cover"});
    CHECK(by_name(client.connectdb_params(map)) && by_name(client.connectdb_params(pairs)));
    CHECK(by_name(client.connectdb_params({{"application_name", "cover"}})));
    CHECK(by_name(client.connectdb_params({{"dbname", "application_name=cover"}}, true)));
    CHECK(PQstatus(client.connectdb_params(keywords, values).get()) == CONNECTION_BAD);
    CHECK(PQuser(client.connectdb_params(keywords, values, true).get()) == std::string("nobody"));
    CHECK(failure([&] { (void) client.connectdb_params(nullptr, nullptr); }).status() == PGAAD_INVALID_ARGUMENT);

    // What the server says no to is no exception.
    CHECK(PQstatus(client.connectdb("user=nobody").get()) == CONNECTION_BAD);
    // What pgaad says no to is one, with its message alone.
    const auto refused = failure<pgaad::insecure_error>([&] { (void) client.connectdb("sslmode=disable"); });
    CHECK(refused.status() == PGAAD_INSECURE && std::string_view(refused.what()).find('\n') == std::string_view::npos);
    CHECK(failure<pgaad::insecure_error>([&] { (void) client.connect_start("host=db.example"); }).status() ==
          PGAAD_INSECURE);

    // A fresh token, by who opened it or by another.
    const std::string before = PQpass(conn.get()), pid = value(conn, "select pg_backend_pid()");
    client.invalidate();
    conn.reset();
    CHECK(is_good(conn) && PQpass(conn.get()) != before && value(conn, "select pg_backend_pid()") != pid);
    conn.reset(pgaad::client());
    CHECK(is_good(conn));
    place = conn.get();
    const pgaad::client wrong("",
                              [](std::string_view, auto) -> std::string { throw pgaad::error(PGAAD_DENIED, "no."); });
    CHECK(failure<pgaad::denied_error>([&] { conn.reset(wrong); }).status() == PGAAD_DENIED);
    CHECK(conn.get() == place && is_good(conn));
    CHECK(is_good(connected_elsewhere(client)));
}

static void finish_start(const pgaad::connection &conn)
{
    for (PostgresPollingStatusType next = PGRES_POLLING_WRITING; next != PGRES_POLLING_OK;
         next = PQconnectPoll(conn.get())) {
        CHECK(next != PGRES_POLLING_FAILED);
        pollfd wait{PQsocket(conn.get()), static_cast<short>(next == PGRES_POLLING_READING ? POLLIN : POLLOUT), 0};
        CHECK(poll(&wait, 1, -1) == 1);
    }
    CHECK(is_good(conn));
}

static void loops()
{
    const pgaad::client client;
    // Before a first prefetch it waits for a token.
    finish_start(client.connect_start());
    const char *const keywords[] = {"application_name", nullptr}, *const values[] = {"cover", nullptr};
    finish_start(client.connect_start_params(keywords, values));
    finish_start(client.connect_start_params({{"application_name", "cover"}}));
    finish_start(client.connect_start_params(std::map<std::string, std::string>{{"dbname", "postgres"}}, true));

    pgaad::descriptor none;
    CHECK(none.get() == -1);
    pgaad::descriptor ready = client.prefetch();
    const int fd = ready.get();
    CHECK(is_open(fd));
    pollfd wait{fd, POLLIN, 0};
    CHECK(poll(&wait, 1, -1) == 1 && wait.revents == POLLIN);
    finish_start(client.connect_start());
    none = std::move(ready);
    CHECK(none.get() == fd && ready.get() == -1 && is_open(fd));
    pgaad::descriptor other = client.prefetch();
    const int other_fd = other.get();
    // What it held is closed at once.
    other = std::move(none);
    CHECK(other.get() == fd && !is_open(other_fd) && is_open(fd));
    pgaad::descriptor &same = other;
    other = std::move(same);
    CHECK(other.get() == fd && is_open(fd));
    CHECK(pgaad::descriptor(std::move(other)).get() == fd);
    CHECK(!is_open(fd));
    pgaad::descriptor given = client.prefetch();
    const int mine = given.release();
    given = pgaad::descriptor();
    CHECK(is_open(mine) && close(mine) == 0);

    // After it, where no token is here, it throws at once.
    const pgaad::client wrong("", [](std::string_view, auto) { return std::string(); });
    CHECK(failure<pgaad::config_error>([&] { (void) wrong.prefetch(); }).status() == PGAAD_CONFIG);
    CHECK(failure([] { (void) pgaad::client("auth=off").prefetch(); }).status() == PGAAD_DISABLED);
}

static void the_library()
{
    const pgaad::libpq_library found = pgaad::libpq();
    CHECK(found.version == PQlibVersion() && found.path.find("libpq.so.5") != std::string::npos);
    // The resolver of the program's.
    int asked = 0;
    std::string thrown;
    try {
        pgaad::use_libpq([](const char *) -> void * { throw std::runtime_error("not this one"); });
    } catch (const std::runtime_error &error) {
        thrown = error.what();
    }
    CHECK(thrown == "not this one");
    CHECK(failure([] { pgaad::use_libpq([](const char *) -> void * { return nullptr; }); }).status() == PGAAD_LIBPQ);
    const auto resolve = [&](const char *symbol) {
        asked++;
        return dlsym(RTLD_DEFAULT, symbol);
    };
    pgaad::use_libpq(resolve);
    CHECK(asked > 10);
    CHECK(is_good(pgaad::connectdb()));
    CHECK(failure([&] { pgaad::use_libpq(resolve); }).status() == PGAAD_INVALID_ARGUMENT);
}

static void oauth()
{
    if (PQlibVersion() < 180000)
        CHECK(failure([] { pgaad::use_oauth(); }).status() == PGAAD_LIBPQ);
    else
        pgaad::use_oauth();
    std::printf("%d\n", PQlibVersion());
}

static void threads()
{
    // A const client for all.
    const pgaad::client client;
    const std::string token(client.get_token().value.view());
    std::vector<std::thread> threads;
    std::atomic<int> right{0};
    for (int i = 0; i < 8; i++)
        threads.emplace_back([&] { right += client.get_token(10s).value.view() == token && !client.stats().empty(); });
    for (std::thread &thread : threads)
        thread.join();
    CHECK(right == 8);
}

/* Says as whom the argument is the token of. */
static void user(const char *token)
{
    const pgaad::client client("", [=](std::string_view, auto) { return std::string(token); });
    std::puts(client.user().c_str());
}

/* Gets a token with these settings, and says what came of it. */
static void get(const char *settings)
{
    try {
        CHECK(!pgaad::client(settings).get_token().value.empty());
        std::puts("PGAAD_OK");
    } catch (const pgaad::temporary_error &error) {
        std::printf("temporary %s %s\n", error.name(), error.what());
    } catch (const pgaad::config_error &error) {
        std::printf("config %s %s\n", error.name(), error.what());
    } catch (const pgaad::denied_error &error) {
        std::printf("denied %s %s\n", error.name(), error.what());
    } catch (const pgaad::unavailable_error &error) {
        std::printf("unavailable %s %s\n", error.name(), error.what());
    } catch (const pgaad::error &error) {
        std::printf("error %s %s\n", error.name(), error.what());
    }
}

int main(int argc, char **argv)
{
    static const std::map<std::string_view, std::function<void()>> cases{
        {"arguments", arguments},     {"secrets", secrets},     {"clients", clients},
        {"default", default_client},  {"times", times},         {"callbacks", callbacks},
        {"statuses", statuses},       {"connections", connections}, {"loops", loops},
        {"library", the_library},     {"oauth", oauth},         {"threads", threads},
        {"wiping", wiping},
        {"user", [=] { user(argv[2]); }}, {"get", [=] { get(argv[2]); }},
    };
    const auto chosen = argc > 1 ? cases.find(argv[1]) : cases.end();
    if (chosen == cases.end()) {
        for (const auto &[name, run] : cases)
            std::printf("%s\n", name.data());
        return 2;
    }
    chosen->second();
    return 0;
}

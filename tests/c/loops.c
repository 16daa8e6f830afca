/* Many connections at once in one event loop, which never waits anywhere else.
 *
 *   loops HOW COUNT CONNINFO          by pgaad_client_prefetch and pgaad_client_connect_start
 *   loops HOW COUNT CONNINFO oauth    the same after pgaad_use_oauth
 *   loops HOW COUNT CONNINFO plain    by PQconnectStart, for comparison
 *
 * HOW is select, poll, epoll, libevent or libuv. Prints "waiting" once the loop's timer has fired a hundred times while no
 * token was there, "connecting" once it has done so after the last connection was started and before any was done; then
 * how many were made and why the others were not, and in microseconds the longest single call of each sort and the
 * longest that the timer, which fires every millisecond, was late. */
#include <errno.h>
#include <event2/event.h>
#include <libpq-fe.h>
#include <pgaad.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

enum { MOST = 512, PATIENCE = 120, TURNS = 100 };

/* What waits for a descriptor; the loop forgets it before it says that the descriptor is ready. */
struct watch {
    int fd, is_for_writing;
};

struct loop {
    const char *name;
    void (*open)(void);
    void (*watch)(struct watch *);
    void (*run)(void);
};

static void ready(struct watch *watch);
static void tick(void);
static int over;

static long now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000L + now.tv_nsec / 1000;
}

static void fail(const char *what)
{
    fprintf(stderr, "loops: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* The system's own three: the watches of the moment, and a timer by the call's time limit. */

static struct watch *watched[MOST];
static int watched_count;

static void add(struct watch *watch)
{
    watched[watched_count++] = watch;
}

static void tick_if_due(void)
{
    static long last;
    if (now_us() - last >= 1000) {
        last = now_us();
        tick();
    }
}

/* Hands over those that `is_ready`, which is asked by place. */
static void dispatch(int (*is_ready)(int place))
{
    struct watch *found[MOST], *left[MOST];
    int found_count = 0, left_count = 0;
    for (int i = 0; i < watched_count; i++)
        if (is_ready(i))
            found[found_count++] = watched[i];
        else
            left[left_count++] = watched[i];
    memcpy(watched, left, left_count * sizeof *left);
    watched_count = left_count;
    for (int i = 0; i < found_count; i++)
        ready(found[i]);
}

static fd_set readable, writable;

static int is_selected(int place)
{
    return FD_ISSET(watched[place]->fd, watched[place]->is_for_writing ? &writable : &readable);
}

static void run_select(void)
{
    while (!over) {
        struct timeval limit = { .tv_usec = 1000 };
        int most = -1;
        FD_ZERO(&readable);
        FD_ZERO(&writable);
        for (int i = 0; i < watched_count; i++) {
            FD_SET(watched[i]->fd, watched[i]->is_for_writing ? &writable : &readable);
            most = watched[i]->fd > most ? watched[i]->fd : most;
        }
        int found = select(most + 1, &readable, &writable, NULL, &limit);
        if (found < 0 && errno != EINTR)
            fail("select");
        if (found > 0)
            dispatch(is_selected);
        tick_if_due();
    }
}

static struct pollfd polled[MOST];

static int is_polled(int place)
{
    return polled[place].revents != 0;
}

static void run_poll(void)
{
    while (!over) {
        for (int i = 0; i < watched_count; i++)
            polled[i] = (struct pollfd){ watched[i]->fd, watched[i]->is_for_writing ? POLLOUT : POLLIN, 0 };
        int found = poll(polled, watched_count, 1);
        if (found < 0 && errno != EINTR)
            fail("poll");
        if (found > 0)
            dispatch(is_polled);
        tick_if_due();
    }
}

static int epoll_fd;

static void open_epoll(void)
{
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
}

static void watch_epoll(struct watch *watch)
{
    struct epoll_event event = { .events = watch->is_for_writing ? EPOLLOUT : EPOLLIN, .data.ptr = watch };
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, watch->fd, &event))
        fail("epoll_ctl");
}

static void run_epoll(void)
{
    while (!over) {
        struct epoll_event found[64];
        int count = epoll_wait(epoll_fd, found, 64, 1);
        if (count < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct watch *watch = found[i].data.ptr;
            if (epoll_ctl(epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL))
                fail("epoll_ctl");
            ready(watch);
        }
        tick_if_due();
    }
}

static struct event_base *base;

static void event_ready(evutil_socket_t fd, short what, void *watch)
{
    (void) fd, (void) what;
    ready(watch);
}

static void event_tick(evutil_socket_t fd, short what, void *unused)
{
    (void) fd, (void) what, (void) unused;
    tick();
    if (over)
        event_base_loopbreak(base);
}

static void open_event(void)
{
    base = event_base_new();
}

static void watch_event(struct watch *watch)
{
    if (event_base_once(base, watch->fd, watch->is_for_writing ? EV_WRITE : EV_READ, event_ready, watch, NULL))
        fail("event_base_once");
}

static void run_event(void)
{
    struct event *timer = event_new(base, -1, EV_PERSIST, event_tick, NULL);
    event_add(timer, &(struct timeval){ .tv_usec = 1000 });
    event_base_dispatch(base);
    event_free(timer);
    event_base_free(base);
}

static uv_loop_t *uv;

static void uv_freed(uv_handle_t *handle)
{
    free(handle);
}

static void uv_ready(uv_poll_t *handle, int status, int events)
{
    struct watch *watch = handle->data;
    (void) status, (void) events;
    uv_poll_stop(handle);
    uv_close((uv_handle_t *) handle, uv_freed);
    ready(watch);
}

static void uv_tick(uv_timer_t *timer)
{
    tick();
    if (over)
        uv_close((uv_handle_t *) timer, NULL);
}

static void open_uv(void)
{
    uv = uv_default_loop();
}

static void watch_uv(struct watch *watch)
{
    uv_poll_t *handle = calloc(1, sizeof *handle);
    handle->data = watch;
    if (uv_poll_init(uv, handle, watch->fd)
        || uv_poll_start(handle, watch->is_for_writing ? UV_WRITABLE : UV_READABLE, uv_ready))
        fail("uv_poll");
}

static void run_uv(void)
{
    uv_timer_t timer;
    uv_timer_init(uv, &timer);
    uv_timer_start(&timer, uv_tick, 1, 1);
    uv_run(uv, UV_RUN_DEFAULT);
    uv_loop_close(uv);
}

static void nothing(void)
{
}

static const struct loop loops[] = {
    { "select", nothing, add, run_select },
    { "poll", nothing, add, run_poll },
    { "epoll", open_epoll, watch_epoll, run_epoll },
    { "libevent", open_event, watch_event, run_event },
    { "libuv", open_uv, watch_uv, run_uv },
};
static const struct loop *loop;

/* The connections. */

struct slot {
    struct watch watch; /* first: the loop gives it back */
    PGconn *conn;
    int has_asked;
};

static struct slot slots[MOST];
static int count, started, made, failed, is_plain;
static pgaad_client *client;
static const char *conninfo;
/* How many ended how, by pgaad_status. */
static int statuses[PGAAD_INTERNAL + 1];
static char *reason;

enum { PREFETCH, START, POLL, CALLS };
static long longest[CALLS], latest;

static void took(int call, long since)
{
    long time = now_us() - since;
    longest[call] = time > longest[call] ? time : longest[call];
}

static void wait_for(struct slot *slot, int fd, int is_for_writing)
{
    slot->watch = (struct watch){ fd, is_for_writing };
    loop->watch(&slot->watch);
}

static void end(struct slot *slot, int is_good)
{
    made += is_good;
    failed += !is_good;
    statuses[pgaad_connection_status(slot->conn)]++;
    if (!is_good && !reason)
        reason = strdup(PQerrorMessage(slot->conn));
    PQfinish(slot->conn);
    slot->conn = NULL;
    over = made + failed == count;
}

static void prefetch(struct slot *slot)
{
    char *errmsg;
    int fd;
    long since = now_us();
    if (pgaad_client_prefetch(client, &fd, &errmsg)) {
        fprintf(stderr, "loops: %s\n", errmsg);
        exit(2);
    }
    took(PREFETCH, since);
    wait_for(slot, fd, 0);
}

static void start(struct slot *slot)
{
    long since = now_us();
    slot->conn = is_plain ? PQconnectStart(conninfo) : pgaad_client_connect_start(client, conninfo);
    took(START, since);
    started++;
    if (PQstatus(slot->conn) == CONNECTION_BAD)
        end(slot, 0);
    else
        wait_for(slot, PQsocket(slot->conn), 1);
}

/* Of a query. */
static void receive(struct slot *slot)
{
    PGresult *result;
    int rows = 0;
    if (!PQconsumeInput(slot->conn)) {
        end(slot, 0);
        return;
    }
    while (!PQisBusy(slot->conn)) {
        result = PQgetResult(slot->conn);
        if (!result) {
            end(slot, rows == 1);
            return;
        }
        rows += PQntuples(result);
        PQclear(result);
        slot->has_asked++; /* what ends the query may come at once */
    }
    wait_for(slot, PQsocket(slot->conn), 0);
}

static void go_on(struct slot *slot)
{
    long since = now_us();
    PostgresPollingStatusType turn = PQconnectPoll(slot->conn);
    took(POLL, since);
    if (turn == PGRES_POLLING_READING || turn == PGRES_POLLING_WRITING) {
        wait_for(slot, PQsocket(slot->conn), turn == PGRES_POLLING_WRITING);
    } else if (turn == PGRES_POLLING_OK && !PQsetnonblocking(slot->conn, 1)
               && PQsendQuery(slot->conn, "select current_user") && !PQflush(slot->conn)) {
        slot->has_asked = 1;
        wait_for(slot, PQsocket(slot->conn), 0);
    } else {
        end(slot, 0);
    }
}

static void ready(struct watch *watch)
{
    struct slot *slot = (struct slot *) watch;
    if (slot->has_asked) {
        receive(slot);
    } else if (slot->conn) {
        go_on(slot);
    } else {
        close(watch->fd);
        start(slot);
    }
}

static void say_when_turned(const char *what, int is_so, int *turns)
{
    if (is_so && ++*turns == TURNS) {
        puts(what);
        fflush(stdout);
    }
}

static void tick(void)
{
    static long last;
    static int waiting, connecting;
    long now = now_us();
    if (last && now - last - 1000 > latest)
        latest = now - last - 1000;
    last = now;
    say_when_turned("waiting", !started, &waiting);
    say_when_turned("connecting", started == count && !made && !failed, &connecting);
}

int main(int argc, char **argv)
{
    char *errmsg;
    if (argc != 4 && argc != 5)
        return 2;
    alarm(PATIENCE);
    for (size_t i = 0; i < sizeof loops / sizeof *loops; i++)
        if (!strcmp(argv[1], loops[i].name))
            loop = &loops[i];
    count = atoi(argv[2]);
    conninfo = argv[3];
    is_plain = argc == 5 && !strcmp(argv[4], "plain");
    if (!loop || count < 1 || count > MOST)
        return 2;
    if ((argc == 5 && !is_plain && pgaad_use_oauth(&errmsg)) || (!is_plain && pgaad_client_new("", &client, &errmsg))) {
        fprintf(stderr, "loops: %s\n", errmsg);
        return 2;
    }
    loop->open();
    for (int i = 0; i < count; i++)
        if (is_plain)
            start(&slots[i]);
        else
            prefetch(&slots[i]);
    if (!over)
        loop->run();
    pgaad_client_free(client);
    printf("made %d\nfailed %d\n", made, failed);
    for (int i = 0; i <= PGAAD_INTERNAL; i++)
        if (statuses[i])
            printf("status %s %d\n", pgaad_status_name(i), statuses[i]);
    printf("longest prefetch=%ld start=%ld poll=%ld late=%ld\n", longest[PREFETCH], longest[START], longest[POLL], latest);
    printf("reason %s%s", reason ? reason : "", reason ? "" : "\n");
    free(reason);
    return 0;
}

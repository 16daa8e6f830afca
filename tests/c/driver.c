/* Calls the library as a C program does. Arguments are commands, each ended by a lone ";"; each prints one line:
 * the command's name, then key=value pairs; errmsg= is the last and reaches to the line's end.
 *
 *   get_token                       pgaad_get_token; get_user is pgaad_client_get_user
 *   connstring CONNINFO             pgaad_connstring
 *   connect CONNINFO                pgaad_connectdb
 *   params EXPAND [KEYWORD VALUE]...   pgaad_connectdb_params; the value @NULL is NULL
 *   new SETTINGS | default          the client that the commands below use
 *   client_get_token TIMEOUT_MS | client_connstring CONNINFO | client_connect CONNINFO
 *   client_params EXPAND [KEYWORD VALUE]... | invalidate | free | stats
 *   start CONNINFO | client_start CONNINFO | start_params ... | client_start_params ...   the connect_start functions;
 *                                   poll goes on with the connection to its end
 *   poll_while_waiting              until it waits for something else than the server
 *   reset | client_reset            of the last connection; pq_reset is PQreset
 *   prefetch                        pgaad_client_prefetch: keeps the descriptor in the place of "use N"
 *   readable                        whether that is readable now
 *   await HOW                       waits until it is, by select, poll, epoll, edge (of epoll) or io_uring
 *   drain                           reads from it; close closes it
 *   use_oauth                       pgaad_use_oauth
 *   their_hook TOKEN                the program's own hook for OAuth, which answers with this; their_calls: how often
 *                                   it was called
 *   query SQL                       on the last connection; finish ends it
 *   pq CONNINFO                     PQconnectdb, for comparison
 *   libpq                           pgaad_libpq
 *   use_libpq NAME                  pgaad_use_libpq: none, or the path of a library to take the functions from
 *   setenv NAME VALUE | unsetenv NAME
 *   fork                            the rest runs in a child; the parent prints its exit code
 *   fork COMMAND                    the command runs in a child; the parent prints its exit code and goes on
 *   thread COMMAND                  a thread runs the command; join waits for all threads and prints what they said
 *   threads N COMMAND               N threads run it at once, and are waited for
 *   listen                          takes commands from standard input, one a line, tabs between the arguments;
 *                                   each is answered with its lines and a lone "."
 *
 *   use N                           which of 8 places the commands above mean by "the client"
 *   new_hex HEX                     new, with bytes that no command line can carry
 *   hush                            values are not printed or kept any more, only their length is
 *   suspend SECONDS                 the machine sleeps that long; set_clock SECONDS moves the wall clock alone
 *                                   (both need clock.c preloaded)
 *   ignore SIGNAL                   ignores it; catch SIGNAL counts it, caught prints on which threads it came
 *   block                           this thread, and those that it starts, block all signals
 *   reap                            from now on a thread takes the exit status of every child, whoever started it
 *   warm N                          N tokens with every system call forbidden but the clock's; -1: one, after invalidate
 *   fork_storm THREADS FORKS        forks while threads use clients 0 and 1; each child gets a token
 *   exec PROGRAM [ARGUMENT]...      becomes another program
 *   exit CODE                       at once, whatever threads do
 *
 *   echo TEXT
 *   options CONNINFO | client_options CONNINFO   pgaad_connstring, and what libpq reads in its result
 *   parse CONNINFO                  PQconninfoParse
 *   pq_params EXPAND [KEYWORD VALUE]...    PQconnectdbParams, for comparison
 *   null_arrays | client_null_arrays       the params functions without keywords, then without values
 *   conninfo                        of the last connection: PQconninfo
 *   where                           of the last connection: PQhost, PQport and so on
 *   message                         of the last connection: PQerrorMessage, every byte of it
 *   libpq_version N                 pgaad_use_libpq: the linked libpq, which says that it is this version
 *
 *   new_callback ... and what belongs to it: see callback.h
 *
 * An argument @NULL is NULL, and "@file PATH" what that file holds; in others @TOKEN and @CONNSTRING stand for the
 * last that was printed. Values of options are printed with all but letters, digits and -._~/:,* as %XX.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <pgaad.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Whatever hangs is ended after so many seconds, and the test fails. */
enum { PATIENCE = 120 };

static pgaad_client *clients[8];
static __thread int at;
#define client clients[at]
static PGconn *conn;
static int hushed;
static char *last_token, *last_connstring;
/* What a thread says is kept until it is joined. */
static __thread FILE *out;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vfprintf(out ? out : stdout, format, values);
    va_end(values);
    fflush(out ? out : stdout);
}

static void report(const char *command, pgaad_status status, const char *key, char *value, char *errmsg)
{
    char *shown = value ? value : (char *) "";
    if (value && hushed)
        say("%s status=%s %s_length=%zu errmsg=%s\n", command, pgaad_status_name(status), key, strlen(value),
            errmsg ? errmsg : "");
    else
        say("%s status=%s%s%s%s%s errmsg=%s\n", command, pgaad_status_name(status), value ? " " : "",
            value ? key : "", value ? "=" : "", shown, errmsg ? errmsg : "");
    if (value && !hushed && !out && (!strcmp(key, "token") || !strcmp(key, "connstring"))) {
        char **last = *key == 't' ? &last_token : &last_connstring;
        free(*last);
        *last = strdup(value);
    }
    pgaad_free(value);
    pgaad_free(errmsg);
}

static void say_connection(const char *command)
{
    if (!conn) {
        say("%s NULL\n", command);
        return;
    }
    char *message = strdup(PQerrorMessage(conn));
    for (char *c = message; *c; c++)
        if (*c == '\n')
            *c = c[1] ? '|' : '\0';
    const char *state = PQstatus(conn) == CONNECTION_OK ? "OK" : PQstatus(conn) == CONNECTION_BAD ? "BAD" : "STARTED";
    say("%s status=%s conn=%s user=%s errmsg=%s\n", command, pgaad_status_name(pgaad_connection_status(conn)), state,
        PQuser(conn) ? PQuser(conn) : "", message);
    free(message);
}

static void opened(const char *command, PGconn *made)
{
    PQfinish(conn);
    conn = made;
    say_connection(command);
}

static int is_event(int fd)
{
    char link[32], target[32] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return readlink(link, target, sizeof target - 1) > 0 && strstr(target, "eventfd") != NULL;
}

static void poll_on(const char *command, int until_event)
{
    for (PostgresPollingStatusType turn = PGRES_POLLING_WRITING; PQstatus(conn) != CONNECTION_BAD;) {
        if (until_event && is_event(PQsocket(conn)))
            break;
        struct pollfd event = { .fd = PQsocket(conn), .events = turn == PGRES_POLLING_READING ? POLLIN : POLLOUT };
        if (poll(&event, 1, -1) < 0 && errno != EINTR)
            abort();
        turn = PQconnectPoll(conn);
        if (turn == PGRES_POLLING_OK || turn == PGRES_POLLING_FAILED)
            break;
    }
    say_connection(command);
}

/* What the connection was is only compared, as a number. */
static void reset(const char *command, int by_client)
{
    char *errmsg;
    uintptr_t before = (uintptr_t) conn;
    pgaad_status status = by_client ? pgaad_client_reset(client, &conn, &errmsg) : pgaad_reset(&conn, &errmsg);
    say("%s_call status=%s same=%d errmsg=%s\n", command, pgaad_status_name(status), (uintptr_t) conn == before,
        errmsg ? errmsg : "");
    pgaad_free(errmsg);
    say_connection(command);
}

static int events[8] = { -1, -1, -1, -1, -1, -1, -1, -1 };
#define event events[at]

static void prefetch(const char *command)
{
    char *errmsg;
    int fd = -2;
    pgaad_status status = pgaad_client_prefetch(client, &fd, &errmsg);
    if (event >= 0)
        close(event);
    event = fd;
    say("%s status=%s fd=%s errmsg=%s\n", command, pgaad_status_name(status), fd >= 0 ? "yes" : fd == -1 ? "no" : "odd",
        errmsg ? errmsg : "");
    pgaad_free(errmsg);
}

static int is_readable(int fd, int patience_ms)
{
    struct pollfd wanted = { .fd = fd, .events = POLLIN };
    return poll(&wanted, 1, patience_ms) == 1 && wanted.revents == POLLIN;
}

static int await_by_select(int fd)
{
    fd_set wanted;
    FD_ZERO(&wanted);
    FD_SET(fd, &wanted);
    return select(fd + 1, &wanted, NULL, NULL, NULL) == 1 && FD_ISSET(fd, &wanted);
}

static int await_by_epoll(int fd, uint32_t flags)
{
    struct epoll_event wanted = { .events = EPOLLIN | flags, .data.fd = fd }, got = { 0 };
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int is_good = !epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &wanted) && epoll_wait(epoll, &got, 1, -1) == 1
                  && got.data.fd == fd && got.events == EPOLLIN;
    close(epoll);
    return is_good;
}

/* One poll request, without liburing. */
static int await_by_io_uring(int fd)
{
    struct io_uring_params p = { 0 };
    int ring = (int) syscall(SYS_io_uring_setup, 1, &p);
    if (ring < 0)
        return -1; /* a kernel or sandbox without it */
    size_t size = p.sq_off.array + p.sq_entries * sizeof(uint32_t);
    size_t cq_size = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    char *sq = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
    char *cq = mmap(NULL, cq_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_CQ_RING);
    struct io_uring_sqe *sqe = mmap(NULL, sizeof *sqe, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
    if (sq == MAP_FAILED || cq == MAP_FAILED || sqe == MAP_FAILED)
        abort();
    memset(sqe, 0, sizeof *sqe);
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = fd;
    sqe->poll32_events = POLLIN;
    *(uint32_t *) (sq + p.sq_off.array) = 0;
    __atomic_store_n((uint32_t *) (sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
    int done = (int) syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0);
    struct io_uring_cqe *cqe = (struct io_uring_cqe *) (cq + p.cq_off.cqes);
    int is_good = done == 1 && cqe->res == POLLIN;
    munmap(sq, size);
    munmap(cq, cq_size);
    munmap(sqe, sizeof *sqe);
    close(ring);
    return is_good;
}

static void await(const char *command, const char *how)
{
    int result = !strcmp(how, "select")   ? await_by_select(event)
                 : !strcmp(how, "epoll")  ? await_by_epoll(event, 0)
                 : !strcmp(how, "edge")   ? await_by_epoll(event, EPOLLET)
                 : !strcmp(how, "poll")   ? is_readable(event, -1)
                                          : await_by_io_uring(event);
    say("%s readable=%s\n", command, result < 0 ? "unknown" : result ? "yes" : "no");
}

#include "callback.h"

static void print_option(FILE *to, const char *keyword, const char *value)
{
    if (!value)
        return;
    fprintf(to, " %s=", keyword);
    for (const unsigned char *c = (const unsigned char *) value; *c; c++)
        if (isalnum(*c) || strchr("-._~/:,*", *c))
            putc(*c, to);
        else
            fprintf(to, "%%%02X", *c);
}

/* Takes the list and the message. */
static void say_options(const char *command, PQconninfoOption *list, char *message)
{
    char *text = NULL;
    size_t length;
    FILE *to = open_memstream(&text, &length);
    for (PQconninfoOption *option = list; option && option->keyword; option++)
        print_option(to, option->keyword, option->val);
    fclose(to);
    say("%s%s errmsg=%.*s\n", command, text, message ? (int) strcspn(message, "\n") : 0, message ? message : "");
    free(text);
    PQconninfoFree(list);
    PQfreemem(message);
}

static void parse(const char *command, const char *conninfo)
{
    char *message = NULL;
    PQconninfoOption *list = PQconninfoParse(conninfo, &message);
    say_options(command, list, message);
}

static void say_connstring_options(const char *command, pgaad_status status, char *connstring, char *errmsg)
{
    if (status != PGAAD_OK) {
        report(command, status, NULL, connstring, errmsg);
        return;
    }
    char line[64];
    snprintf(line, sizeof line, "%s status=PGAAD_OK", command);
    parse(line, connstring);
    pgaad_free(connstring);
    pgaad_free(errmsg);
}

static void say_where(void)
{
    char *text = NULL;
    size_t length;
    FILE *to = open_memstream(&text, &length);
    print_option(to, "host", PQhost(conn));
    print_option(to, "hostaddr", PQhostaddr(conn));
    print_option(to, "port", PQport(conn));
    print_option(to, "user", PQuser(conn));
    print_option(to, "dbname", PQdb(conn));
    print_option(to, "options", PQoptions(conn));
    fclose(to);
    say("where%s errmsg=\n", text);
    free(text);
}

static void say_message(void)
{
    char *text = NULL;
    size_t length;
    FILE *to = open_memstream(&text, &length);
    print_option(to, "encoded", PQerrorMessage(conn));
    fclose(to);
    say("message%s\n", text);
    free(text);
}

/* Of libpq 18, which the headers may be too old for. */
struct bearer_request {
    const char *openid_configuration, *scope;
    int (*async)(PGconn *, struct bearer_request *, int *);
    void (*cleanup)(PGconn *, struct bearer_request *);
    char *token;
    void *user;
};

typedef int auth_data_hook(int kind, PGconn *of, void *data);

static char *their_token;
static atomic_int their_calls;

static int their_hook(int kind, PGconn *of, void *data)
{
    (void) of;
    atomic_fetch_add(&their_calls, 1);
    if (kind != 1)
        return 0;
    ((struct bearer_request *) data)->token = their_token;
    return 1;
}

static void set_their_hook(const char *token)
{
    void (*set)(auth_data_hook *) = (void (*)(auth_data_hook *)) dlsym(RTLD_DEFAULT, "PQsetAuthDataHook");
    if (!set) {
        fprintf(stderr, "driver: this libpq has no hooks\n");
        exit(2);
    }
    free(their_token);
    their_token = strdup(token);
    set(their_hook);
}

typedef PGconn *connect_params(pgaad_client *by, const char *const *keywords, const char *const *values, int expand);

static PGconn *short_params(pgaad_client *by, const char *const *keywords, const char *const *values, int expand)
{
    (void) by;
    return pgaad_connectdb_params(keywords, values, expand);
}

static PGconn *short_start_params(pgaad_client *by, const char *const *keywords, const char *const *values, int expand)
{
    (void) by;
    return pgaad_connect_start_params(keywords, values, expand);
}

static PGconn *libpq_params(pgaad_client *by, const char *const *keywords, const char *const *values, int expand)
{
    (void) by;
    return PQconnectdbParams(keywords, values, expand);
}

static void null_arrays(const char *command, connect_params *connect)
{
    const char *none[] = { NULL };
    opened(command, connect(client, NULL, none, 0));
    opened(command, connect(client, none, NULL, 0));
}

static int pretended_version;

static int pretend(void)
{
    return pretended_version;
}

static void *pretending_symbol(const char *name, void *unused)
{
    (void) unused;
    return strcmp(name, "PQlibVersion") ? dlsym(RTLD_DEFAULT, name) : (void *) pretend;
}

static PGconn *params(connect_params *connect, char **arguments, int count)
{
    const char **keywords = calloc(count, sizeof *keywords), **values = calloc(count, sizeof *values);
    int expand = atoi(arguments[0]), pairs = 0;
    for (int i = 1; i + 1 < count; i += 2, pairs++) {
        keywords[pairs] = arguments[i];
        values[pairs] = arguments[i + 1];
    }
    PGconn *made = connect(client, keywords, values, expand);
    free(keywords);
    free(values);
    return made;
}

static void *symbol(const char *name, void *library)
{
    return library ? dlsym(library, name) : NULL;
}

static void run(char **a, int n);

/* A command on a thread of its own. */
struct job {
    pthread_t thread;
    int at, n;
    char **a, *text;
    size_t length;
    struct job *next;
};
static struct job *jobs, **last_job = &jobs;

static void *job_thread(void *pointer)
{
    struct job *job = pointer;
    at = job->at;
    out = open_memstream(&job->text, &job->length);
    run(job->a, job->n);
    fclose(out);
    out = NULL;
    return NULL;
}

static void start(char **a, int n)
{
    struct job *job = calloc(1, sizeof *job);
    *job = (struct job) { .at = at, .n = n, .a = calloc(n, sizeof *a) };
    for (int i = 0; i < n; i++)
        job->a[i] = strdup(a[i]);
    if (pthread_create(&job->thread, NULL, job_thread, job))
        abort();
    *last_job = job;
    last_job = &job->next;
}

static void join(void)
{
    for (struct job *job = jobs, *next; job; job = next) {
        pthread_join(job->thread, NULL);
        say("%s", job->text);
        for (int i = 0; i < job->n; i++)
            free(job->a[i]);
        next = job->next;
        free(job->a);
        free(job->text);
        free(job);
    }
    jobs = NULL;
    last_job = &jobs;
}

static void say_how_it_ended(const char *command, pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {
        if (errno == EINTR)
            continue;
        say("%s gone\n", command); /* SIGCHLD is ignored: nobody knows */
        return;
    }
    say("%s exit=%d signal=%d\n", command, WIFEXITED(status) ? WEXITSTATUS(status) : -1,
        WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

static void in_child(char **a, int n)
{
    pid_t child = fork();
    if (child) {
        say_how_it_ended("fork", child);
        return;
    }
    alarm(PATIENCE);
    out = NULL; /* nobody joins this thread here */
    run(a, n);
    exit(0);
}

static void listen_to_stdin(void)
{
    char *line = NULL, *a[64];
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        int n = 0;
        line[strcspn(line, "\n")] = '\0';
        for (char *rest = line; rest && n < 64;)
            a[n++] = strsep(&rest, "\t");
        run(a, n);
        say(".\n");
    }
    free(line);
}

static void new_hex(const char *hex)
{
    char *settings = calloc(strlen(hex) / 2 + 1, 1), *errmsg;
    for (size_t i = 0; hex[2 * i]; i++) {
        unsigned byte;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
            abort();
        settings[i] = (char) byte;
    }
    pgaad_status status = pgaad_client_new(settings, &client, &errmsg);
    report("new_hex", status, NULL, NULL, errmsg);
    free(settings);
}

static void shift(const char *function, const char *seconds)
{
    void (*call)(long long) = (void (*)(long long)) dlsym(RTLD_DEFAULT, function);
    if (!call) {
        fprintf(stderr, "driver: clock.c is not preloaded\n");
        exit(2);
    }
    call(atoll(seconds));
}

static atomic_int signals, signals_on_ours;

static void on_signal(int number)
{
    char name[16] = "";
    (void) number;
    prctl(PR_GET_NAME, name);
    atomic_fetch_add(&signals, 1);
    if (!strncmp(name, "pgaad", 5))
        atomic_fetch_add(&signals_on_ours, 1);
}

static void act_on(const char *number, void (*handler)(int))
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
    if (sigaction(atoi(number), &action, NULL))
        abort();
}

static void block(void)
{
    sigset_t all;
    sigfillset(&all);
    sigdelset(&all, SIGALRM); /* PATIENCE */
    pthread_sigmask(SIG_BLOCK, &all, NULL);
}

static void *reaper(void *unused)
{
    (void) unused;
    for (;;)
        if (waitpid(-1, NULL, 0) < 0)
            usleep(200); /* no child now */
    return NULL;
}

static void reap(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, reaper, NULL) || pthread_detach(thread))
        abort();
}

/* A child says by its exit code how it went, since a system call too many kills it. */
static void warm(int count)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_gettime, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = { sizeof rules / sizeof *rules, rules };
    pid_t child = fork();
    if (child) {
        say_how_it_ended("warm", child);
        return;
    }
    alarm(PATIENCE);
    char *token;
    int failed = 0;
    /* The C library's allocator may ask the system for memory at first. */
    for (int i = 0; i < 8; i++, pgaad_free(token))
        failed |= pgaad_client_get_token(client, -1, &token, NULL, NULL);
    if (count < 0)
        failed |= pgaad_client_invalidate(client, NULL);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        _exit(4);
    for (int i = 0; i < abs(count); i++, pgaad_free(token))
        failed |= pgaad_client_get_token(client, i % 2 - 1, &token, NULL, NULL);
    _exit(failed ? 5 : 0);
}

static atomic_int storm_is_over;

static void *storm(void *failures)
{
    while (!storm_is_over) {
        char *token;
        if (pgaad_client_invalidate(clients[0], NULL) || pgaad_client_get_token(clients[0], -1, &token, NULL, NULL))
            atomic_fetch_add((atomic_int *) failures, 1);
        else
            pgaad_free(token);
    }
    return NULL;
}

/* Goes in and out of the library's critical sections all the time, without any request. */
static void *hammer(void *failures)
{
    while (!storm_is_over) {
        char *token;
        if (pgaad_client_invalidate(clients[1], NULL)
            || pgaad_client_get_token(clients[1], 0, &token, NULL, NULL) != PGAAD_TIMEOUT)
            atomic_fetch_add((atomic_int *) failures, 1);
    }
    return NULL;
}

/* Each second thread hammers on client 1, the others fetch for client 0, as each second child does. */
static void fork_storm(int thread_count, int forks)
{
    pthread_t *threads = calloc(thread_count, sizeof *threads);
    atomic_int failures = 0;
    int lost = 0;
    for (int i = 0; i < thread_count; i++)
        if (pthread_create(&threads[i], NULL, i % 2 ? hammer : storm, &failures))
            abort();
    for (int i = 0; i < forks && !lost; i++) {
        int status = -1;
        pid_t child = fork();
        if (!child) {
            char *token;
            alarm(PATIENCE / 4);
            if (pgaad_client_invalidate(clients[1], NULL) || (i % 2 && pgaad_client_invalidate(clients[0], NULL)))
                _exit(99);
            pgaad_status got = pgaad_client_get_token(clients[0], -1, &token, NULL, NULL);
            pgaad_free(token);
            _exit(got);
        }
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
            ;
        lost += status != 0;
    }
    storm_is_over = 1;
    for (int i = 0; i < thread_count; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    say("fork_storm children_lost=%d failures=%d\n", lost, failures);
}

static void obey(char **a, int n)
{
    const char *command = a[0];
    char *value = NULL, *errmsg = NULL;
#define IS(name, arguments) (!strcmp(command, name) && n == 1 + (arguments))
    if (IS("get_token", 0)) {
        pgaad_status status = pgaad_get_token(&value, &errmsg);
        report(command, status, "token", value, errmsg);
    } else if (IS("connstring", 1)) {
        pgaad_status status = pgaad_connstring(a[1], &value, &errmsg);
        report(command, status, "connstring", value, errmsg);
    } else if (IS("connect", 1)) {
        opened(command, pgaad_connectdb(a[1]));
    } else if (!strcmp(command, "params") && n >= 2) {
        opened(command, params(short_params, a + 1, n - 1));
    } else if (IS("start", 1)) {
        opened(command, pgaad_connect_start(a[1]));
    } else if (IS("client_start", 1)) {
        opened(command, pgaad_client_connect_start(client, a[1]));
    } else if (!strcmp(command, "start_params") && n >= 2) {
        opened(command, params(short_start_params, a + 1, n - 1));
    } else if (!strcmp(command, "client_start_params") && n >= 2) {
        opened(command, params(pgaad_client_connect_start_params, a + 1, n - 1));
    } else if (IS("null_start_arrays", 0)) {
        null_arrays(command, short_start_params);
        null_arrays(command, pgaad_client_connect_start_params);
    } else if (IS("poll", 0)) {
        poll_on(command, 0);
    } else if (IS("poll_while_waiting", 0)) {
        poll_on(command, 1);
    } else if (IS("reset", 0) || IS("client_reset", 0)) {
        reset(command, *command == 'c');
    } else if (IS("pq_reset", 0)) {
        PQreset(conn);
        say_connection(command);
    } else if (IS("prefetch", 0)) {
        prefetch(command);
    } else if (IS("use_oauth", 0)) {
        pgaad_status status = pgaad_use_oauth(&errmsg);
        report(command, status, NULL, NULL, errmsg);
    } else if (IS("their_hook", 1)) {
        set_their_hook(a[1]);
    } else if (IS("their_calls", 0)) {
        say("%s %d\n", command, their_calls);
    } else if (IS("readable", 0)) {
        say("%s readable=%s\n", command, is_readable(event, 0) ? "yes" : "no");
    } else if (IS("await", 1)) {
        await(command, a[1]);
    } else if (IS("drain", 0)) {
        uint64_t count;
        say("%s bytes=%zd\n", command, read(event, &count, sizeof count));
    } else if (IS("close", 0)) {
        close(event);
        event = -1;
    } else if (!strcmp(command, "pq_params") && n >= 2) {
        opened(command, params(libpq_params, a + 1, n - 1));
    } else if (IS("new", 1)) {
        pgaad_status status = pgaad_client_new(a[1], &client, &errmsg);
        report(command, status, NULL, NULL, errmsg);
    } else if (IS("default", 0)) {
        pgaad_status status = pgaad_client_default(&client, &errmsg);
        report(command, status, NULL, NULL, errmsg);
    } else if (IS("client_get_token", 1)) {
        int64_t expires_on = -1;
        pgaad_status status = pgaad_client_get_token(client, atoi(a[1]), &value, &expires_on, &errmsg);
        say("expires_on %" PRId64 "\n", expires_on);
        report(command, status, "token", value, errmsg);
    } else if (IS("client_connstring", 1)) {
        pgaad_status status = pgaad_client_connstring(client, a[1], &value, &errmsg);
        report(command, status, "connstring", value, errmsg);
    } else if (IS("get_user", 0)) {
        pgaad_status status = pgaad_client_get_user(client, &value, &errmsg);
        report(command, status, "user", value, errmsg);
    } else if (IS("client_connect", 1)) {
        opened(command, pgaad_client_connectdb(client, a[1]));
    } else if (!strcmp(command, "client_params") && n >= 2) {
        opened(command, params(pgaad_client_connectdb_params, a + 1, n - 1));
    } else if (IS("null_arrays", 0)) {
        null_arrays(command, short_params);
    } else if (IS("client_null_arrays", 0)) {
        null_arrays(command, pgaad_client_connectdb_params);
    } else if (IS("options", 1)) {
        pgaad_status status = pgaad_connstring(a[1], &value, &errmsg);
        say_connstring_options(command, status, value, errmsg);
    } else if (IS("client_options", 1)) {
        pgaad_status status = pgaad_client_connstring(client, a[1], &value, &errmsg);
        say_connstring_options(command, status, value, errmsg);
    } else if (IS("parse", 1)) {
        parse(command, a[1]);
    } else if (IS("conninfo", 0)) {
        say_options(command, PQconninfo(conn), NULL);
    } else if (IS("where", 0)) {
        say_where();
    } else if (IS("message", 0)) {
        say_message();
    } else if (IS("echo", 1)) {
        say("echo %s\n", a[1]);
    } else if ((!strcmp(command, "new_callback") || !strcmp(command, "new_unreleased")) && n >= 3) {
        new_callback(command, a[1], a + 2, n - 2);
    } else if (IS("supplier", 0)) {
        say_supplier();
    } else if (IS("go", 0)) {
        sem_post(&gone);
    } else if (IS("churn", 1)) {
        churn(atoi(a[1]));
    } else if (IS("libpq_version", 1)) {
        pretended_version = atoi(a[1]);
        pgaad_status status = pgaad_use_libpq(pretending_symbol, NULL, &errmsg);
        report(command, status, NULL, NULL, errmsg);
    } else if (IS("stats", 0)) {
        pgaad_status status = pgaad_client_stats(client, &value, &errmsg);
        report(command, status, "stats", value, errmsg);
    } else if (IS("invalidate", 0)) {
        pgaad_status status = pgaad_client_invalidate(client, &errmsg);
        report(command, status, NULL, NULL, errmsg);
    } else if (IS("free", 0)) {
        pgaad_client_free(client);
        client = NULL;
    } else if (IS("query", 1)) {
        PGresult *result = PQexec(conn, a[1]);
        if (PQresultStatus(result) == PGRES_TUPLES_OK)
            say("query value=%s\n", PQntuples(result) ? PQgetvalue(result, 0, 0) : "");
        else
            say("query error=%s", result ? PQresultErrorMessage(result) : PQerrorMessage(conn));
        PQclear(result);
    } else if (IS("finish", 0)) {
        PQfinish(conn);
        conn = NULL;
    } else if (IS("pq", 1)) {
        opened(command, PQconnectdb(a[1]));
    } else if (IS("libpq", 0)) {
        int version = -1;
        pgaad_status status = pgaad_libpq(&version, &value, &errmsg);
        say("version %d\n", version);
        report(command, status, "path", value, errmsg);
    } else if (IS("use_libpq", 1)) {
        void *library = strcmp(a[1], "none") ? dlopen(a[1], RTLD_NOW | RTLD_LOCAL) : NULL;
        pgaad_status status = pgaad_use_libpq(symbol, library, &errmsg);
        report(command, status, NULL, NULL, errmsg);
    } else if (IS("setenv", 2)) {
        setenv(a[1], a[2], 1);
    } else if (IS("unsetenv", 1)) {
        unsetenv(a[1]);
    } else if (!strcmp(command, "fork") && n >= 2) {
        in_child(a + 1, n - 1);
    } else if (!strcmp(command, "thread") && n >= 2) {
        start(a + 1, n - 1);
    } else if (!strcmp(command, "threads") && n >= 3) {
        for (int i = atoi(a[1]); i > 0; i--)
            start(a + 2, n - 2);
        join();
    } else if (IS("join", 0)) {
        join();
    } else if (IS("listen", 0)) {
        listen_to_stdin();
    } else if (IS("use", 1)) {
        at = atoi(a[1]) % 8;
    } else if (IS("new_hex", 1)) {
        new_hex(a[1]);
    } else if (IS("hush", 0)) {
        hushed = 1;
    } else if (IS("suspend", 1)) {
        shift("suspend_machine", a[1]);
    } else if (IS("set_clock", 1)) {
        shift("set_wall_clock", a[1]);
    } else if (IS("ignore", 1)) {
        act_on(a[1], SIG_IGN);
    } else if (IS("catch", 1)) {
        act_on(a[1], on_signal);
    } else if (IS("caught", 0)) {
        say("caught count=%d ours=%d\n", signals, signals_on_ours);
    } else if (IS("block", 0)) {
        block();
    } else if (IS("reap", 0)) {
        reap();
    } else if (IS("warm", 1)) {
        warm(atoi(a[1]));
    } else if (IS("fork_storm", 2)) {
        fork_storm(atoi(a[1]), atoi(a[2]));
    } else if (!strcmp(command, "exec") && n >= 2) {
        char *arguments[64] = { 0 };
        memcpy(arguments, a + 1, (n - 1) * sizeof *a);
        execv(arguments[0], arguments);
        exit(2);
    } else if (IS("exit", 1)) {
        exit(atoi(a[1]));
    } else {
        fprintf(stderr, "driver: bad command %s with %d arguments\n", command, n - 1);
        exit(2);
    }
}

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t size = 0;
    if (!file)
        exit(4);
    if (getdelim(&text, &size, '\0', file) < 0) {
        free(text);
        text = strdup("");
    }
    fclose(file);
    return text;
}

/* What an argument stands for, to be freed. */
static char *expanded(const char *argument)
{
    if (!strcmp(argument, "@NULL"))
        return NULL;
    if (!strncmp(argument, "@file ", 6))
        return read_file(argument + 6);
    const struct {
        const char *name, *value;
    } places[] = { { "@TOKEN", last_token }, { "@CONNSTRING", last_connstring } };
    char *text = strdup(argument);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char *place = places[i].value ? strstr(text, places[i].name) : NULL, *made;
        if (place && asprintf(&made, "%.*s%s%s", (int) (place - text), text, places[i].value,
                              place + strlen(places[i].name)) >= 0) {
            free(text);
            text = made;
        }
    }
    return text;
}

static void run(char **a, int n)
{
    if (!strncmp(a[0], "thread", 6) || !strcmp(a[0], "fork")) {
        obey(a, n); /* comes back here with the command in it */
        return;
    }
    char **texts = calloc(n, sizeof *texts);
    for (int i = 0; i < n; i++)
        texts[i] = expanded(a[i]);
    obey(texts, n);
    for (int i = 0; i < n; i++)
        free(texts[i]);
    free(texts);
}

int main(int argc, char **argv)
{
    alarm(PATIENCE);
    sem_init(&gone, 0, 0);
    for (int i = 1, n; i < argc; i += n + 1) {
        for (n = 0; i + n < argc && strcmp(argv[i + n], ";"); n++)
            ;
        if (!strcmp(argv[i], "fork") && n == 1) {
            pid_t child = fork();
            if (child > 0) {
                say_how_it_ended("fork", child);
                break;
            }
            alarm(PATIENCE);
        } else {
            run(argv + i, n);
        }
    }
    PQfinish(conn);
    free(their_token);
    free(last_token);
    free(last_connstring);
    return 0;
}

/* Many threads at once.
 *
 *   threads storm THREADS ROUNDS CONNINFO   every function, on shared clients and on clients of the threads' own
 *   threads free CALLS CONNINFO             frees clients under the calls that run on them: once a line comes on
 *                                           standard input, by when all calls wait for their tokens
 *
 * The environment has an identity. Every call must do its work. Says what went wrong.
 */
#include <dlfcn.h>
#include <libpq-fe.h>
#include <pgaad.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_int wrong;
static const char *conninfo;
static int rounds;
static pgaad_client *shared[3];

static void complain(const char *what, pgaad_status status, const char *errmsg)
{
    printf("%s: %s: %s\n", what, pgaad_status_name(status), errmsg ? errmsg : "");
    wrong++;
}

static void expect(const char *what, pgaad_status status, char *errmsg)
{
    if (status != PGAAD_OK || errmsg)
        complain(what, status, errmsg);
    pgaad_free(errmsg);
}

static void expect_text(const char *what, pgaad_status status, char *text, const char *part, char *errmsg)
{
    expect(what, status, errmsg);
    if (!text || !strstr(text, part))
        complain(what, status, "not what was asked for");
    pgaad_free(text);
}

static void expect_open(const char *what, PGconn *conn)
{
    if (PQstatus(conn) != CONNECTION_OK || pgaad_connection_status(conn) != PGAAD_OK)
        complain(what, pgaad_connection_status(conn), PQerrorMessage(conn));
    PQfinish(conn);
}

static void get_token(pgaad_client *client)
{
    char *token, *errmsg;
    int64_t expires_on = 0;
    pgaad_status status = pgaad_client_get_token(client, -1, &token, &expires_on, &errmsg);
    if (status == PGAAD_OK && expires_on < 1000000000)
        complain("expires_on", status, "is no time");
    expect_text("client_get_token", status, token, "eyJ", errmsg);
}

static void connstring(pgaad_client *client)
{
    char *made, *errmsg;
    pgaad_status status = pgaad_client_connstring(client, conninfo, &made, &errmsg);
    expect_text("client_connstring", status, made, "eyJ", errmsg);
}

static void connectdb(pgaad_client *client)
{
    expect_open("client_connectdb", pgaad_client_connectdb(client, conninfo));
}

static void connectdb_params(pgaad_client *client)
{
    const char *const keywords[] = {"dbname", NULL}, *const values[] = {conninfo, NULL};
    expect_open("client_connectdb_params", pgaad_client_connectdb_params(client, keywords, values, 1));
}

static PGconn *polled(PGconn *conn)
{
    for (PostgresPollingStatusType turn = PGRES_POLLING_WRITING;
         turn != PGRES_POLLING_OK && turn != PGRES_POLLING_FAILED; turn = PQconnectPoll(conn)) {
        struct pollfd event = {.fd = PQsocket(conn), .events = turn == PGRES_POLLING_READING ? POLLIN : POLLOUT};
        poll(&event, 1, -1);
    }
    return conn;
}

static void connect_start(pgaad_client *client)
{
    expect_open("client_connect_start", polled(pgaad_client_connect_start(client, conninfo)));
}

static void reset(pgaad_client *client)
{
    PGconn *conn = pgaad_client_connectdb(client, conninfo);
    char *errmsg;
    pgaad_status status = pgaad_client_reset(client, &conn, &errmsg);
    expect("client_reset", status, errmsg);
    expect_open("client_reset", conn);
}

static void invalidate(pgaad_client *client)
{
    char *errmsg;
    pgaad_status status = pgaad_client_invalidate(client, &errmsg);
    expect("client_invalidate", status, errmsg);
}

/* On clients for whom nobody fetches ahead: those that wait for a token come first. */
static void (*const ON_CLIENTS[])(pgaad_client *) = {get_token,        connstring,    connectdb,
                                                     connectdb_params, connect_start, reset,
                                                     invalidate};
enum { ON_CLIENTS_COUNT = sizeof ON_CLIENTS / sizeof *ON_CLIENTS, WAITING_COUNT = 5 };

/* On a client of its own, whose token nobody drops. */
static void prefetch(pgaad_client *client)
{
    struct pollfd event = {.fd = -1, .events = POLLIN};
    char *errmsg;
    pgaad_status status = pgaad_client_prefetch(client, &event.fd, &errmsg);
    expect("client_prefetch", status, errmsg);
    if (poll(&event, 1, -1) != 1 || event.revents != POLLIN || close(event.fd))
        complain("client_prefetch", status, "is not readable");
    connect_start(client);
}

static void *linked(const char *symbol, void *userdata)
{
    (void) userdata;
    return dlsym(RTLD_DEFAULT, symbol);
}

static void short_way(void)
{
    char *text, *errmsg;
    const char *const keywords[] = {"dbname", NULL}, *const values[] = {conninfo, NULL};
    int version;
    pgaad_status status = pgaad_get_token(&text, &errmsg);
    expect_text("get_token", status, text, "eyJ", errmsg);
    status = pgaad_connstring(conninfo, &text, &errmsg);
    expect_text("connstring", status, text, "eyJ", errmsg);
    status = pgaad_libpq(&version, &text, &errmsg);
    expect_text("libpq", status, text, "libpq", errmsg);
    /* Until some thread's first connect, the libpq can be named. */
    status = pgaad_use_libpq(linked, NULL, &errmsg);
    if (status != PGAAD_INVALID_ARGUMENT)
        expect("use_libpq", status, errmsg);
    else
        pgaad_free(errmsg);
    expect_open("connectdb", pgaad_connectdb(conninfo));
    expect_open("connect_start", polled(pgaad_connect_start(conninfo)));
    expect_open("connect_start_params", polled(pgaad_connect_start_params(keywords, values, 1)));
    expect_open("connectdb_params", pgaad_connectdb_params(keywords, values, 1));
    if (strcmp(pgaad_version(), PGAAD_VERSION) || pgaad_version_number() != PGAAD_VERSION_NUMBER)
        complain("version", PGAAD_OK, pgaad_version());
}

static void *storm(void *number)
{
    int thread = (int) (intptr_t) number;
    for (int round = 0; round < rounds; round++) {
        int step = thread + round;
        pgaad_client *own, *client = shared[step % 3];
        char *errmsg;
        pgaad_status status = pgaad_client_default(&own, &errmsg);
        expect("client_default", status, errmsg);
        if (step % 7 == 0)
            short_way();
        ON_CLIENTS[step % ON_CLIENTS_COUNT](client);
        status = pgaad_client_new("log=off", &own, &errmsg);
        expect("client_new", status, errmsg);
        get_token(own);
        ON_CLIENTS[(step / 3) % ON_CLIENTS_COUNT](own);
        if (step % 3 == 0)
            prefetch(own);
        pgaad_client_free(own);
    }
    return NULL;
}

static void run_storm(int count)
{
    pthread_t threads[64];
    char *errmsg;
    expect("client_default", pgaad_client_default(&shared[0], &errmsg), NULL);
    for (int i = 1; i < 3; i++)
        expect("client_new", pgaad_client_new("", &shared[i], &errmsg), NULL);
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, storm, (void *) (intptr_t) i))
            abort();
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 3; i++)
        pgaad_client_free(shared[i]);
}

struct call {
    pthread_t thread;
    pgaad_client *client;
    void (*run)(pgaad_client *);
};

static void *run_call(void *argument)
{
    struct call *call = argument;
    call->run(call->client);
    return NULL;
}

static void free_under_calls(int count)
{
    struct call calls[64];
    char line[16], *errmsg;
    for (int i = 0; i < count; i++) {
        calls[i].run = ON_CLIENTS[i % WAITING_COUNT];
        expect("client_new", pgaad_client_new("", &calls[i].client, &errmsg), NULL);
        if (pthread_create(&calls[i].thread, NULL, run_call, &calls[i]))
            abort();
    }
    if (!fgets(line, sizeof line, stdin))
        exit(3);
    for (int i = 0; i < count; i++)
        pgaad_client_free(calls[i].client);
    puts("freed\n.");
    fflush(stdout);
    for (int i = 0; i < count; i++)
        pthread_join(calls[i].thread, NULL);
}

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[1], "storm")) {
        rounds = atoi(argv[3]);
        conninfo = argv[4];
        run_storm(atoi(argv[2]));
    } else if (argc == 4 && !strcmp(argv[1], "free")) {
        conninfo = argv[3];
        free_under_calls(atoi(argv[2]));
    } else {
        return 2;
    }
    puts("done");
    return wrong ? 1 : 0;
}

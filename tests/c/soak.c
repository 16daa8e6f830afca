/* A busy server: threads get tokens and connections, of shared clients and of their own, while the token service fails now
 * and then and tokens expire. Meanwhile the process forks, and what it uses is looked at.
 *
 *   soak THREADS SECONDS CONNINFO [steady | pooler]
 *
 * Steady: it does nothing but connect, ten times a second in each thread, and says when which call failed: a line "failed
 * BEGUN_MS ENDED_MS STATUS MESSAGE", in Unix milliseconds. At the end: a line "stats JSON".
 *
 * Pooler: each thread has a connection, which it opens, asks, resets and drops at random, all by one client. It says when
 * which call failed, too.
 *
 * Prints lines "sample RSS_KIB DESCRIPTORS THREADS", then the same with "end" once all is quiet again, and how often each
 * call ended how. Complains about what must not happen, and exits with 1 then.
 */
#include <dirent.h>
#include <libpq-fe.h>
#include <pgaad.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SHARED = 3, STATUSES = PGAAD_INTERNAL + 1 };

static const char *conninfo;
static pgaad_client *shared[SHARED];
static atomic_long ended[STATUSES];
static atomic_long connected, resets, kept;
static atomic_int over, wrong;
static void *(*mode)(void *number);

static void complain(const char *what, const char *why)
{
    printf("wrong: %s: %s\n", what, why ? why : "");
    fflush(stdout);
    wrong = 1;
}

/* What a token service that fails may lead to. */
static int is_expected(pgaad_status status)
{
    return status == PGAAD_OK || status == PGAAD_DENIED || status == PGAAD_THROTTLED || status == PGAAD_NETWORK
        || status == PGAAD_TIMEOUT || status == PGAAD_PROTOCOL;
}

static void count(const char *what, pgaad_status status, char *errmsg)
{
    if (is_expected(status))
        ended[status]++;
    else
        complain(what, errmsg);
    pgaad_free(errmsg);
}

static void get_token(pgaad_client *client)
{
    char *token, *errmsg;
    int64_t expires_on;
    pgaad_status status = pgaad_client_get_token(client, -1, &token, &expires_on, &errmsg);
    if (status == PGAAD_OK && expires_on <= time(NULL))
        complain("client_get_token", "handed out an expired token");
    count("client_get_token", status, errmsg);
    pgaad_free(token);
}

static long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void query(PGconn *conn)
{
    PGresult *result = PQexec(conn, "select 1");
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        complain("select", PQerrorMessage(conn));
    PQclear(result);
}

static void *work(void *number);

/* A call that may lead to a connection has ended. */
static void note(const char *what, pgaad_status status, PGconn *conn, const char *message, long long begun)
{
    count(what, status, NULL);
    if (status == PGAAD_OK && PQstatus(conn) == CONNECTION_OK) {
        connected++;
    } else if (status == PGAAD_OK || !is_expected(status)) {
        complain(what, message);
    } else if (mode != work) {
        printf("failed %lld %lld %s %.*s\n", begun, now_ms(), pgaad_status_name(status), (int) strcspn(message, "\n"),
               message);
        fflush(stdout);
    }
}

static PGconn *started(pgaad_client *client)
{
    PGconn *conn = pgaad_client_connect_start(client, conninfo);
    PostgresPollingStatusType turn = PGRES_POLLING_WRITING;
    while (PQstatus(conn) != CONNECTION_BAD && turn != PGRES_POLLING_OK) {
        struct pollfd event = { PQsocket(conn), turn == PGRES_POLLING_READING ? POLLIN : POLLOUT, 0 };
        poll(&event, 1, -1);
        turn = PQconnectPoll(conn);
    }
    return conn;
}

/* The result may be BAD. */
static PGconn *open_by(pgaad_client *client, unsigned way)
{
    const char *const keywords[] = { "dbname", NULL }, *const values[] = { conninfo, NULL };
    long long begun = now_ms();
    PGconn *conn = way == 0 ? pgaad_client_connectdb(client, conninfo)
        : way == 1          ? pgaad_client_connectdb_params(client, keywords, values, 1)
                            : started(client);
    note("a connect function", pgaad_connection_status(conn), conn, PQerrorMessage(conn), begun);
    return conn;
}

static void use_database(pgaad_client *client)
{
    PGconn *conn = open_by(client, 0);
    if (PQstatus(conn) == CONNECTION_OK)
        query(conn);
    PQfinish(conn);
}

static unsigned next(unsigned *random)
{
    *random = *random * 1664525 + 1013904223;
    return *random >> 16;
}

/* Whatever becomes of the token, there is a connection afterwards: the old one, or one as good. */
static void reset(PGconn **conn, pgaad_client *client)
{
    PGconn *before = *conn;
    long long begun = now_ms();
    char *errmsg;
    pgaad_status status = client ? pgaad_client_reset(client, conn, &errmsg) : pgaad_reset(conn, &errmsg);
    note("a reset function", status, *conn, errmsg ? errmsg : PQerrorMessage(*conn), begun);
    pgaad_free(errmsg);
    if (status && *conn != before)
        complain("reset", "failed, and took the connection away");
    resets += status == PGAAD_OK;
    kept += status == PGAAD_OK && *conn == before;
    query(*conn);
}

static void *work_as_a_pooler(void *number)
{
    unsigned random = (unsigned) (intptr_t) number * 2654435761U + 1;
    PGconn *conn = NULL;
    while (!over) {
        unsigned choice = next(&random) % 16;
        if (!conn) {
            conn = open_by(shared[0], choice % 3);
        } else if (PQstatus(conn) == CONNECTION_BAD || choice < 3) {
            PQfinish(conn);
            conn = NULL;
        } else if (choice < 8) {
            reset(&conn, choice % 2 ? shared[0] : NULL);
        } else {
            query(conn);
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000L * (next(&random) % 50)}, NULL);
    }
    PQfinish(conn);
    return NULL;
}

static void *work(void *number)
{
    unsigned random = (unsigned) (intptr_t) number * 2654435761U + 1;
    while (!over) {
        char *text, *errmsg;
        pgaad_client *client;
        pgaad_status status;
        unsigned choice = next(&random);
        client = shared[(choice >> 8) % SHARED];
        switch (choice % 16) {
        case 0:
            status = pgaad_client_invalidate(client, &errmsg);
            count("client_invalidate", status, errmsg);
            break;
        case 1:
        case 2:
            status = pgaad_client_new("timeout_ms=5000", &client, &errmsg);
            count("client_new", status, errmsg);
            use_database(client);
            pgaad_client_free(client);
            break;
        case 3:
            status = pgaad_client_connstring(client, conninfo, &text, &errmsg);
            count("client_connstring", status, errmsg);
            pgaad_free(text);
            break;
        case 4:
        case 5:
        case 6:
            get_token(client);
            break;
        default:
            use_database(client);
        }
    }
    return NULL;
}

static void *work_steadily(void *unused)
{
    (void) unused;
    while (!over) {
        use_database(shared[0]);
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    return NULL;
}

static void fork_once(void)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        for (int i = 0; i < SHARED; i++)
            get_token(shared[i]);
        _exit(wrong);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status)
        complain("fork", "the child ended badly");
}

static int entries(const char *folder)
{
    int found = 0;
    DIR *dir = opendir(folder);
    while (dir && readdir(dir))
        found++;
    if (dir)
        closedir(dir);
    return found - 2; /* . and .. */
}

static int report(const char *what)
{
    long pages = 0;
    int threads = entries("/proc/self/task");
    FILE *statm = fopen("/proc/self/statm", "r");
    if (!statm || fscanf(statm, "%*d %ld", &pages) != 1)
        complain("statm", "unreadable");
    if (statm)
        fclose(statm);
    /* One descriptor is that of the folder itself. */
    printf("%s %ld %d %d\n", what, pages * (sysconf(_SC_PAGESIZE) / 1024), entries("/proc/self/fd") - 1, threads);
    fflush(stdout);
    return threads;
}

int main(int argc, char **argv)
{
    pthread_t threads[64];
    char *errmsg;
    if (argc != 4 && argc != 5)
        return 2;
    mode = argc == 4 ? work : !strcmp(argv[4], "pooler") ? work_as_a_pooler : work_steadily;
    int thread_count = atoi(argv[1]), seconds = atoi(argv[2]);
    conninfo = argv[3];
    for (int i = 0; i < SHARED; i++)
        count("a client", i ? pgaad_client_new("timeout_ms=5000", &shared[i], &errmsg)
                            : pgaad_client_default(&shared[i], &errmsg), NULL);
    for (int i = 0; i < thread_count; i++)
        if (pthread_create(&threads[i], NULL, mode, (void *) (intptr_t) i))
            return 3;
    for (int i = 0; i < seconds && !wrong; i++) {
        sleep(1);
        report("sample");
        if (mode == work)
            fork_once();
    }
    over = 1;
    for (int i = 0; i < thread_count; i++)
        pthread_join(threads[i], NULL);
    char *stats;
    count("client_stats", pgaad_client_stats(shared[0], &stats, &errmsg), NULL);
    printf("stats %s\n", stats ? stats : errmsg);
    pgaad_free(stats);
    for (int i = 0; i < SHARED; i++)
        pgaad_client_free(shared[i]);
    /* Fetches that nobody waits for any more end by themselves. */
    for (int i = 0; i < 300 && entries("/proc/self/task") > 1; i++)
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    report("end");
    printf("connected %ld\nresets %ld\nkept %ld\n", connected, resets, kept);
    for (int i = 0; i < STATUSES; i++)
        if (ended[i])
            printf("%s %ld\n", pgaad_status_name(i), ended[i]);
    puts("done");
    return wrong;
}

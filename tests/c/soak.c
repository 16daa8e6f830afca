/* A busy server: threads get tokens and connections, of shared clients and of their own, while the token service fails now
 * and then and tokens expire. Meanwhile the process forks, and what it uses is looked at.
 *
 *   soak THREADS SECONDS CONNINFO [steady]
 *
 * Steady: it does nothing but connect, ten times a second in each thread, and says when which call failed: a line "failed
 * BEGUN_MS ENDED_MS STATUS MESSAGE", in Unix milliseconds. At the end: a line "stats JSON".
 *
 * Prints lines "sample RSS_KIB DESCRIPTORS THREADS", then the same with "end" once all is quiet again, and how often each
 * call ended how. Complains about what must not happen, and exits with 1 then.
 */
#include <dirent.h>
#include <libpq-fe.h>
#include <pgaad.h>
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
static atomic_long connected;
static atomic_int over, wrong;
static int steady;

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

static void use_database(pgaad_client *client)
{
    long long begun = now_ms();
    PGconn *conn = pgaad_client_connectdb(client, conninfo);
    pgaad_status status = pgaad_connection_status(conn);
    count("client_connectdb", status, NULL);
    if (PQstatus(conn) == CONNECTION_OK) {
        PGresult *result = PQexec(conn, "select 1");
        if (PQresultStatus(result) != PGRES_TUPLES_OK)
            complain("select", PQerrorMessage(conn));
        PQclear(result);
        connected++;
    } else if (status == PGAAD_OK || !is_expected(status)) {
        complain("client_connectdb", PQerrorMessage(conn));
    } else if (steady) {
        printf("failed %lld %lld %s %s", begun, now_ms(), pgaad_status_name(status), PQerrorMessage(conn));
        fflush(stdout);
    }
    PQfinish(conn);
}

static void *work(void *number)
{
    unsigned random = (unsigned) (intptr_t) number * 2654435761U + 1;
    while (!over) {
        char *text, *errmsg;
        pgaad_client *client;
        pgaad_status status;
        random = random * 1664525 + 1013904223;
        client = shared[(random >> 24) % SHARED];
        switch ((random >> 16) % 16) {
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
    steady = argc == 5;
    int thread_count = atoi(argv[1]), seconds = atoi(argv[2]);
    conninfo = argv[3];
    for (int i = 0; i < SHARED; i++)
        count("a client", i ? pgaad_client_new("timeout_ms=5000", &shared[i], &errmsg)
                            : pgaad_client_default(&shared[i], &errmsg), NULL);
    for (int i = 0; i < thread_count; i++)
        if (pthread_create(&threads[i], NULL, steady ? work_steadily : work, (void *) (intptr_t) i))
            return 3;
    for (int i = 0; i < seconds && !wrong; i++) {
        sleep(1);
        report("sample");
        if (!steady)
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
    printf("connected %ld\n", connected);
    for (int i = 0; i < STATUSES; i++)
        if (ended[i])
            printf("%s %ld\n", pgaad_status_name(i), ended[i]);
    puts("done");
    return wrong;
}

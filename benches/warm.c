/* What a program with a token in memory sees. Prints one line per sample: what was done, and nanoseconds for each time.
 *
 *   warm tokens THREADS ROUNDS      copies, pgaad_get_token and pgaad_client_get_token, by turns
 *   warm connections OPTIONS PAIRS  PQconnectdb with a ready password, and pgaad_connectdb, by turns
 */
#include <libpq-fe.h>
#include <pgaad.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 2000 };

static pgaad_client *client;
static char *sample;
static volatile size_t sample_size;
static pthread_barrier_t together;
static int rounds;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

static void die(const char *why)
{
    fprintf(stderr, "warm: %s\n", why);
    exit(1);
}

/* Keeps the compiler from seeing that nobody reads the bytes. */
static void look_at(const void *bytes)
{
    __asm__ volatile("" : : "r"(bytes) : "memory");
}

static void copy(void)
{
    size_t size = sample_size;
    char *bytes = malloc(size);
    if (!bytes)
        die("no memory");
    memcpy(bytes, sample, size);
    look_at(bytes);
    free(bytes);
}

static void get_token(void)
{
    char *token, *errmsg;
    if (pgaad_get_token(&token, &errmsg) != PGAAD_OK)
        die(errmsg);
    look_at(token);
    pgaad_free(token);
}

static void client_get_token(void)
{
    char *token, *errmsg;
    int64_t expires_on;
    if (pgaad_client_get_token(client, -1, &token, &expires_on, &errmsg) != PGAAD_OK)
        die(errmsg);
    look_at(token);
    pgaad_free(token);
}

static const struct {
    const char *name;
    void (*run)(void);
} KINDS[] = {{"copy", copy}, {"get_token", get_token}, {"client_get_token", client_get_token}};

/* All threads do the same at the same time. */
static void *measure(void *unused)
{
    (void) unused;
    for (int round = 0; round < rounds; round++)
        for (size_t kind = 0; kind < sizeof KINDS / sizeof *KINDS; kind++) {
            pthread_barrier_wait(&together);
            double start = now();
            for (int i = 0; i < BATCH; i++)
                KINDS[kind].run();
            printf("%s %.2f\n", KINDS[kind].name, (now() - start) / BATCH);
        }
    return NULL;
}

static void tokens(int threads)
{
    char *errmsg;
    pthread_t running[64];
    if (pgaad_client_new("", &client, &errmsg) || pgaad_get_token(&sample, &errmsg))
        die(errmsg);
    sample_size = strlen(sample) + 1;
    pthread_barrier_init(&together, NULL, threads);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&running[i], NULL, measure, NULL))
            die("no thread");
    for (int i = 0; i < threads; i++)
        pthread_join(running[i], NULL);
    pgaad_free(sample);
    pgaad_client_free(client);
}

static double connection(PGconn *(*connect)(const char *), const char *conninfo)
{
    double start = now();
    PGconn *conn = connect(conninfo);
    double end = now();
    if (PQstatus(conn) != CONNECTION_OK)
        die(PQerrorMessage(conn));
    PQfinish(conn);
    return end - start;
}

static void connections(const char *options, int pairs)
{
    char *token, *errmsg, *ready;
    if (pgaad_get_token(&token, &errmsg) != PGAAD_OK)
        die(errmsg);
    ready = malloc(strlen(options) + strlen(token) + 16);
    if (!ready)
        die("no memory");
    sprintf(ready, "%s password=%s", options, token);
    for (int i = -10; i < pairs; i++) { /* the first few warm the server up */
        double ours = 0, theirs;
        if (i % 2)
            ours = connection(pgaad_connectdb, options);
        theirs = connection(PQconnectdb, ready);
        if (i % 2 == 0)
            ours = connection(pgaad_connectdb, options);
        if (i >= 0)
            printf("PQconnectdb %.0f\npgaad_connectdb %.0f\n", theirs, ours);
    }
    free(ready);
    pgaad_free(token);
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "tokens")) {
        rounds = atoi(argv[3]);
        tokens(atoi(argv[2]));
    } else if (argc == 4 && !strcmp(argv[1], "connections")) {
        connections(argv[2], atoi(argv[3]));
    } else {
        die("bad arguments");
    }
    return 0;
}

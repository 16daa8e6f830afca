/* Calls the library as a C program does. Arguments are commands, each ended by a lone ";"; each prints one line:
 * the command's name, then key=value pairs; errmsg= is the last and reaches to the line's end.
 *
 *   get_token                       pgaad_get_token
 *   connstring CONNINFO             pgaad_connstring
 *   connect CONNINFO                pgaad_connectdb
 *   params EXPAND [KEYWORD VALUE]...   pgaad_connectdb_params; the value @NULL is NULL
 *   new SETTINGS | default          the client that the commands below use
 *   client_get_token TIMEOUT_MS | client_connstring CONNINFO | client_connect CONNINFO
 *   client_params EXPAND [KEYWORD VALUE]... | invalidate | free
 *   query SQL                       on the last connection; finish ends it
 *   pq CONNINFO                     PQconnectdb, for comparison
 *   libpq                           pgaad_libpq
 *   use_libpq NAME                  pgaad_use_libpq: none, or the path of a library to take the functions from
 *   setenv NAME VALUE | unsetenv NAME
 *   fork                            the rest runs in a child; the parent prints its exit code
 *   threads N get_token             N threads at once
 *   wait                            until a line comes on standard input
 */
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <pgaad.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pgaad_client *client;
static PGconn *conn;

static void report(const char *command, pgaad_status status, const char *key, char *value, char *errmsg)
{
    printf("%s status=%s", command, pgaad_status_name(status));
    if (value)
        printf(" %s=%s", key, value);
    printf(" errmsg=%s\n", errmsg ? errmsg : "");
    fflush(stdout);
    pgaad_free(value);
    pgaad_free(errmsg);
}

static void opened(const char *command, PGconn *made)
{
    PQfinish(conn);
    conn = made;
    if (!conn) {
        printf("%s NULL\n", command);
        fflush(stdout);
        return;
    }
    char *message = strdup(PQerrorMessage(conn));
    for (char *c = message; *c; c++)
        if (*c == '\n')
            *c = c[1] ? '|' : '\0';
    printf("%s status=%s conn=%s user=%s errmsg=%s\n", command, pgaad_status_name(pgaad_connection_status(conn)),
           PQstatus(conn) == CONNECTION_OK ? "OK" : "BAD", PQuser(conn) ? PQuser(conn) : "", message);
    fflush(stdout);
    free(message);
}

static PGconn *params(pgaad_client *by, char **arguments, int count)
{
    const char **keywords = calloc(count, sizeof *keywords), **values = calloc(count, sizeof *values);
    int expand = atoi(arguments[0]), pairs = 0;
    for (int i = 1; i + 1 < count; i += 2, pairs++) {
        keywords[pairs] = arguments[i];
        values[pairs] = strcmp(arguments[i + 1], "@NULL") ? arguments[i + 1] : NULL;
    }
    PGconn *made = by ? pgaad_client_connectdb_params(by, keywords, values, expand)
                      : pgaad_connectdb_params(keywords, values, expand);
    free(keywords);
    free(values);
    return made;
}

static void *symbol(const char *name, void *library)
{
    return library ? dlsym(library, name) : NULL;
}

static void *get_token_thread(void *unused)
{
    char *token, *errmsg;
    (void) unused;
    pgaad_status status = pgaad_get_token(&token, &errmsg);
    flockfile(stdout);
    report("get_token", status, "token", token, errmsg);
    funlockfile(stdout);
    return NULL;
}

static void threads(int count)
{
    pthread_t *running = calloc(count, sizeof *running);
    for (int i = 0; i < count; i++)
        if (pthread_create(&running[i], NULL, get_token_thread, NULL))
            abort();
    for (int i = 0; i < count; i++)
        pthread_join(running[i], NULL);
    free(running);
}

static void run(char **a, int n)
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
        opened(command, params(NULL, a + 1, n - 1));
    } else if (IS("new", 1)) {
        pgaad_status status = pgaad_client_new(a[1], &client, &errmsg);
        report(command, status, NULL, NULL, errmsg);
    } else if (IS("default", 0)) {
        pgaad_status status = pgaad_client_default(&client, &errmsg);
        report(command, status, NULL, NULL, errmsg);
    } else if (IS("client_get_token", 1)) {
        int64_t expires_on = -1;
        pgaad_status status = pgaad_client_get_token(client, atoi(a[1]), &value, &expires_on, &errmsg);
        printf("expires_on %" PRId64 "\n", expires_on);
        report(command, status, "token", value, errmsg);
    } else if (IS("client_connstring", 1)) {
        pgaad_status status = pgaad_client_connstring(client, a[1], &value, &errmsg);
        report(command, status, "connstring", value, errmsg);
    } else if (IS("client_connect", 1)) {
        opened(command, pgaad_client_connectdb(client, a[1]));
    } else if (!strcmp(command, "client_params") && n >= 2) {
        opened(command, params(client, a + 1, n - 1));
    } else if (IS("invalidate", 0)) {
        pgaad_status status = pgaad_client_invalidate(client, &errmsg);
        report(command, status, NULL, NULL, errmsg);
    } else if (IS("free", 0)) {
        pgaad_client_free(client);
        client = NULL;
    } else if (IS("query", 1)) {
        PGresult *result = PQexec(conn, a[1]);
        if (PQresultStatus(result) == PGRES_TUPLES_OK)
            printf("query value=%s\n", PQntuples(result) ? PQgetvalue(result, 0, 0) : "");
        else
            printf("query error=%s", PQresultErrorMessage(result));
        fflush(stdout);
        PQclear(result);
    } else if (IS("finish", 0)) {
        PQfinish(conn);
        conn = NULL;
    } else if (IS("pq", 1)) {
        opened(command, PQconnectdb(a[1]));
    } else if (IS("libpq", 0)) {
        int version = -1;
        pgaad_status status = pgaad_libpq(&version, &value, &errmsg);
        printf("version %d\n", version);
        report(command, status, "path", value, errmsg);
    } else if (IS("use_libpq", 1)) {
        void *library = strcmp(a[1], "none") ? dlopen(a[1], RTLD_NOW | RTLD_LOCAL) : NULL;
        pgaad_status status = pgaad_use_libpq(symbol, library, &errmsg);
        report(command, status, NULL, NULL, errmsg);
    } else if (IS("setenv", 2)) {
        setenv(a[1], a[2], 1);
    } else if (IS("unsetenv", 1)) {
        unsetenv(a[1]);
    } else if (IS("threads", 2) && !strcmp(a[2], "get_token")) {
        threads(atoi(a[1]));
    } else if (IS("wait", 0)) {
        char line[64];
        if (!fgets(line, sizeof line, stdin))
            exit(3);
    } else {
        fprintf(stderr, "driver: bad command %s with %d arguments\n", command, n - 1);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    for (int i = 1, n; i < argc; i += n + 1) {
        for (n = 0; i + n < argc && strcmp(argv[i + n], ";"); n++)
            ;
        if (!strcmp(argv[i], "fork")) {
            pid_t child = fork();
            if (child > 0) {
                int status;
                while (waitpid(child, &status, 0) < 0 && errno == EINTR)
                    ;
                printf("fork exit=%d signal=%d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                       WIFSIGNALED(status) ? WTERMSIG(status) : 0);
                break;
            }
        } else {
            run(argv + i, n);
        }
    }
    PQfinish(conn);
    return 0;
}

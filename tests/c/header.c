/* Compiled by tests/suite/abi.rs: pgaad.h alone, before libpq-fe.h (BEFORE) and after it (AFTER), always twice.
 * What the contract says of numbers and types is checked by the compiler. Prints versions and names. */
#ifdef AFTER
#include <libpq-fe.h>
#endif
#include <pgaad.h>
#ifdef BEFORE
#include <libpq-fe.h>
#endif
#include <pgaad.h>
#include <limits.h>
#include <stdio.h>

/* An array of negative size is an error in every C and C++. */
#define HOLDS(name, condition) typedef char name##_holds[(condition) ? 1 : -1]

HOLDS(ok, PGAAD_OK == 0);
HOLDS(invalid_argument, PGAAD_INVALID_ARGUMENT == 1);
HOLDS(config, PGAAD_CONFIG == 2);
HOLDS(disabled, PGAAD_DISABLED == 3);
HOLDS(unavailable, PGAAD_UNAVAILABLE == 4);
HOLDS(denied, PGAAD_DENIED == 5);
HOLDS(throttled, PGAAD_THROTTLED == 6);
HOLDS(network, PGAAD_NETWORK == 7);
HOLDS(timeout, PGAAD_TIMEOUT == 8);
HOLDS(protocol, PGAAD_PROTOCOL == 9);
HOLDS(insecure, PGAAD_INSECURE == 10);
HOLDS(libpq, PGAAD_LIBPQ == 11);
HOLDS(internal, PGAAD_INTERNAL == 12);

/* PGconn is libpq's name for the same type; it is the contract's in a program without libpq-fe.h. */
typedef struct pg_conn connection;

/* Each function as the contract declares it; a status is a 32-bit int. */
typedef struct functions {
    const char *(*version)(void);
    int (*version_number)(void);
    const char *(*status_name)(int32_t);
    void (*free)(void *);
    int32_t (*get_token)(char **, char **);
    int32_t (*connstring)(const char *, char **, char **);
    connection *(*connectdb)(const char *);
    connection *(*connectdb_params)(const char *const *, const char *const *, int);
    int32_t (*client_new)(const char *, pgaad_client **, char **);
    int32_t (*client_default)(pgaad_client **, char **);
    void (*client_free)(pgaad_client *);
    int32_t (*client_get_token)(pgaad_client *, int, char **, int64_t *, char **);
    int32_t (*client_connstring)(pgaad_client *, const char *, char **, char **);
    connection *(*client_connectdb)(pgaad_client *, const char *);
    connection *(*client_connectdb_params)(pgaad_client *, const char *const *, const char *const *, int);
    int32_t (*client_invalidate)(pgaad_client *, char **);
    int32_t (*connection_status)(connection *);
    int32_t (*use_libpq)(void *(*) (const char *, void *), void *, char **);
    int32_t (*libpq)(int *, char **, char **);
} functions;

static const functions all = {
    pgaad_version,
    pgaad_version_number,
    pgaad_status_name,
    pgaad_free,
    pgaad_get_token,
    pgaad_connstring,
    pgaad_connectdb,
    pgaad_connectdb_params,
    pgaad_client_new,
    pgaad_client_default,
    pgaad_client_free,
    pgaad_client_get_token,
    pgaad_client_connstring,
    pgaad_client_connectdb,
    pgaad_client_connectdb_params,
    pgaad_client_invalidate,
    pgaad_connection_status,
    pgaad_use_libpq,
    pgaad_libpq,
};

#if defined BEFORE || defined AFTER
/* What a program does with it: no casts. */
static pgaad_status sign_in(pgaad_client *client, const char *const *keywords, const char *const *values)
{
    PGconn *conn = pgaad_connectdb("host=/nonexistent");
    PQfinish(conn);
    conn = pgaad_connectdb_params(keywords, values, 0);
    PQfinish(conn);
    conn = pgaad_client_connectdb(client, "host=/nonexistent");
    PQfinish(conn);
    conn = pgaad_client_connectdb_params(client, keywords, values, 0);
    {
        pgaad_status status = pgaad_connection_status(conn);
        PQfinish(conn);
        return status;
    }
}
#endif

int main(void)
{
    static const pgaad_status statuses[] = {
        PGAAD_OK,        PGAAD_INVALID_ARGUMENT, PGAAD_CONFIG,  PGAAD_DISABLED, PGAAD_UNAVAILABLE,
        PGAAD_DENIED,    PGAAD_THROTTLED,        PGAAD_NETWORK, PGAAD_TIMEOUT,  PGAAD_PROTOCOL,
        PGAAD_INSECURE,  PGAAD_LIBPQ,            PGAAD_INTERNAL, 13,             -1,
        INT_MAX,         INT_MIN,
    };
    unsigned i;
    printf("%s %d\n", PGAAD_VERSION, PGAAD_VERSION_NUMBER);
    printf("%s %d\n", all.version(), all.version_number());
    for (i = 0; i < sizeof statuses / sizeof *statuses; i++)
        printf("%s\n", all.status_name(statuses[i]));
#if defined BEFORE || defined AFTER
    {
        const char *const keywords[] = {"host", 0};
        const char *const values[] = {"/nonexistent", 0};
        pgaad_client *client;
        char *errmsg;
        if (pgaad_client_new("auth=off", &client, &errmsg) != PGAAD_OK)
            return 1;
        if (sign_in(client, keywords, values) != PGAAD_OK)
            return 1;
        pgaad_client_free(client);
    }
#endif
    return 0;
}

/* NULL and garbage for every argument of every function; the argument says how often garbage is tried. The environment
 * names no identity and PGHOST=/nonexistent, so nothing is contacted. Prints what is not as promised; says "done" at the
 * end. */
#include <dlfcn.h>
#include <libpq-fe.h>
#include <limits.h>
#include <pgaad.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int broken;

#define CHECK(what, condition) \
    do { \
        if (!(condition)) { \
            printf("%s: not %s\n", what, #condition); \
            broken = 1; \
        } \
    } while (0)

/* What outputs hold before a call. */
#define JUNK ((void *) 0x5a5a5a5a5a5a5a5aU)

static char *errmsg;
static char *text;
static int64_t expires_on;
static int version;
static int fd;
static pgaad_client *made;

static void junk(void)
{
    errmsg = text = JUNK;
    made = JUNK;
    expires_on = 0x5a5a5a5a;
    version = fd = 0x5a5a5a5a;
}

/* A message of ours: one line of UTF-8 for people. */
static int is_message(const char *message, size_t length)
{
    if (strncmp(message, "pgaad: ", 7) || length < 20 || length > 2000)
        return 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = message[i];
        if (c < ' ' || c == 0x7f || c == 0xfe || c == 0xff)
            return 0;
    }
    return 1;
}

/* The call failed as it should, and left no junk in `errmsg`, of which the caller was given one. */
static void failed(const char *what, pgaad_status wanted, pgaad_status status)
{
    CHECK(what, status == wanted);
    CHECK(what, errmsg != JUNK);
    CHECK(what, errmsg != NULL);
    if (errmsg && errmsg != JUNK)
        CHECK(what, is_message(errmsg, strlen(errmsg)));
    if (status != wanted && errmsg && errmsg != JUNK)
        printf("%s: %s: %s\n", what, pgaad_status_name(status), errmsg);
    pgaad_free(errmsg == JUNK ? NULL : errmsg);
    junk();
}

static void worked(const char *what, pgaad_status status)
{
    CHECK(what, status == PGAAD_OK);
    CHECK(what, errmsg == NULL);
    if (status)
        printf("%s: %s: %s\n", what, pgaad_status_name(status), errmsg ? errmsg : "");
    pgaad_free(errmsg);
    junk();
}

/* A connection that failed: for a reason of ours, or, with PGAAD_OK, for one of libpq's. */
static void bad(const char *what, pgaad_status wanted, PGconn *conn)
{
    CHECK(what, conn != NULL);
    CHECK(what, PQstatus(conn) == CONNECTION_BAD);
    CHECK(what, pgaad_connection_status(conn) == wanted);
    const char *message = PQerrorMessage(conn);
    size_t length = strlen(message);
    CHECK(what, length > 0 && message[length - 1] == '\n');
    CHECK(what, (length > 0 && is_message(message, length - 1)) == (wanted != PGAAD_OK));
    PQfinish(conn);
}

static void *nothing(const char *symbol, void *userdata)
{
    (void) symbol;
    (void) userdata;
    return NULL;
}

static void *linked(const char *symbol, void *userdata)
{
    (void) userdata;
    return dlsym(RTLD_DEFAULT, symbol);
}

static void null_before_the_first_connect(void)
{
    failed("use_libpq(NULL)", PGAAD_INVALID_ARGUMENT, pgaad_use_libpq(NULL, NULL, &errmsg));
    CHECK("use_libpq(NULL, NULL, NULL)", pgaad_use_libpq(NULL, NULL, NULL) == PGAAD_INVALID_ARGUMENT);
    failed("use_libpq(nothing)", PGAAD_LIBPQ, pgaad_use_libpq(nothing, NULL, &errmsg));
    worked("use_libpq(linked)", pgaad_use_libpq(linked, NULL, &errmsg));

    pgaad_status status = pgaad_libpq(NULL, &text, &errmsg);
    CHECK("libpq(NULL)", text == NULL);
    failed("libpq(NULL)", PGAAD_INVALID_ARGUMENT, status);
    status = pgaad_libpq(&version, NULL, &errmsg);
    CHECK("libpq(, NULL)", version == 0);
    failed("libpq(, NULL)", PGAAD_INVALID_ARGUMENT, status);
    CHECK("libpq(NULL, NULL, NULL)", pgaad_libpq(NULL, NULL, NULL) == PGAAD_INVALID_ARGUMENT);
    status = pgaad_libpq(&version, &text, &errmsg);
    CHECK("libpq", version == PQlibVersion() && strstr(text, "libpq"));
    pgaad_free(text);
    worked("libpq", status);
}

static void null_for_the_short_way(void)
{
    pgaad_free(NULL);
    failed("get_token(NULL)", PGAAD_INVALID_ARGUMENT, pgaad_get_token(NULL, &errmsg));
    CHECK("get_token(NULL, NULL)", pgaad_get_token(NULL, NULL) == PGAAD_INVALID_ARGUMENT);
    CHECK("get_token(, NULL)", pgaad_get_token(&text, NULL) == PGAAD_UNAVAILABLE && text == NULL);
    junk();
    pgaad_status status = pgaad_get_token(&text, &errmsg);
    CHECK("get_token", text == NULL);
    failed("get_token", PGAAD_UNAVAILABLE, status);

    failed("connstring(, NULL)", PGAAD_INVALID_ARGUMENT, pgaad_connstring("", NULL, &errmsg));
    CHECK("connstring(NULL, NULL, NULL)", pgaad_connstring(NULL, NULL, NULL) == PGAAD_INVALID_ARGUMENT);
    CHECK("connstring(\"x\", , NULL)", pgaad_connstring("x", &text, NULL) == PGAAD_CONFIG && text == NULL);
    junk();
    status = pgaad_connstring(NULL, &text, &errmsg);
    CHECK("connstring(NULL)", text && text != JUNK);
    pgaad_free(text);
    worked("connstring(NULL)", status);

    const char *const keywords[] = {"dbname", NULL}, *const values[] = {"x", NULL};
    bad("connectdb(NULL)", PGAAD_OK, pgaad_connectdb(NULL));
    bad("connectdb_params(NULL, )", PGAAD_INVALID_ARGUMENT, pgaad_connectdb_params(NULL, values, 0));
    bad("connectdb_params(, NULL)", PGAAD_INVALID_ARGUMENT, pgaad_connectdb_params(keywords, NULL, 1));
    bad("connectdb_params(NULL, NULL)", PGAAD_INVALID_ARGUMENT, pgaad_connectdb_params(NULL, NULL, INT_MAX));
    bad("connectdb_params({NULL})", PGAAD_OK, pgaad_connectdb_params(keywords + 1, values + 1, 0));
    bad("connectdb_params({, NULL})", PGAAD_OK, pgaad_connectdb_params(keywords, values + 1, INT_MIN));
    bad("connect_start(NULL)", PGAAD_OK, pgaad_connect_start(NULL));
    bad("connect_start_params(NULL, )", PGAAD_INVALID_ARGUMENT, pgaad_connect_start_params(NULL, values, 0));
    bad("connect_start_params(, NULL)", PGAAD_INVALID_ARGUMENT, pgaad_connect_start_params(keywords, NULL, 1));
    bad("connect_start_params({NULL})", PGAAD_OK, pgaad_connect_start_params(keywords + 1, values + 1, 0));
    PGconn *none = NULL;
    failed("reset(NULL)", PGAAD_INVALID_ARGUMENT, pgaad_reset(NULL, &errmsg));
    failed("reset({NULL})", PGAAD_INVALID_ARGUMENT, pgaad_reset(&none, &errmsg));
    CHECK("reset(NULL, NULL)", pgaad_reset(NULL, NULL) == PGAAD_INVALID_ARGUMENT && !none);
    PGconn *refused = pgaad_connectdb_params(NULL, NULL, 0), *same = refused;
    failed("reset of what was never asked for", PGAAD_INVALID_ARGUMENT, pgaad_reset(&refused, &errmsg));
    CHECK("reset of what was never asked for", refused == same);
    bad("reset of what was never asked for", PGAAD_INVALID_ARGUMENT, refused);
    if (PQlibVersion() < 180000) {
        failed("use_oauth", PGAAD_LIBPQ, pgaad_use_oauth(&errmsg));
        CHECK("use_oauth(NULL)", pgaad_use_oauth(NULL) == PGAAD_LIBPQ);
    }
    CHECK("connection_status(NULL)", pgaad_connection_status(NULL) == PGAAD_INVALID_ARGUMENT);
    PGconn *stranger = PQconnectdb("");
    CHECK("connection_status of another's", pgaad_connection_status(stranger) == PGAAD_OK);
    PQfinish(stranger);
}

static void unwanted_fetch(void *userdata, const char *scope, int timeout_ms, pgaad_answer *answer)
{
    (void) userdata;
    (void) scope;
    (void) timeout_ms;
    pgaad_answer_error(answer, PGAAD_UNAVAILABLE, NULL);
}

static void unwanted_release(void *released)
{
    ++*(int *) released;
}

static void null_for_callbacks(void)
{
    int released = 0;

    pgaad_answer_token(NULL, "x", 1);
    pgaad_answer_token(NULL, NULL, 0);
    pgaad_answer_error(NULL, PGAAD_DENIED, "x");
    pgaad_answer_error(NULL, INT_MIN, NULL);
    pgaad_status status = pgaad_client_new_callback("", NULL, &released, unwanted_release, &made, &errmsg);
    CHECK("client_new_callback(, NULL)", made == NULL);
    failed("client_new_callback(, NULL)", PGAAD_INVALID_ARGUMENT, status);
    failed("client_new_callback(, , , , NULL)", PGAAD_INVALID_ARGUMENT,
           pgaad_client_new_callback("", unwanted_fetch, &released, unwanted_release, NULL, &errmsg));
    CHECK("client_new_callback(NULLs)",
          pgaad_client_new_callback(NULL, NULL, NULL, NULL, NULL, NULL) == PGAAD_INVALID_ARGUMENT);
    status = pgaad_client_new_callback("x", unwanted_fetch, &released, unwanted_release, &made, NULL);
    CHECK("client_new_callback(\"x\", NULL)", status == PGAAD_CONFIG && made == NULL);
    junk();
    CHECK("client_new_callback, which failed", released == 0);
    pgaad_client *client;
    worked("client_new_callback(NULL, , NULL, NULL)",
           pgaad_client_new_callback(NULL, unwanted_fetch, NULL, NULL, &client, &errmsg));
    pgaad_client_free(client);
    worked("client_new_callback", pgaad_client_new_callback(NULL, unwanted_fetch, &released, unwanted_release,
                                                            &client, &errmsg));
    status = pgaad_client_get_token(client, -1, &text, NULL, &errmsg);
    CHECK("an error without a message", text == NULL);
    failed("an error without a message", PGAAD_UNAVAILABLE, status);
    pgaad_client_free(client);
    CHECK("client_free of a callback's", released == 1);
}

static void null_for_the_long_way(void)
{
    const char *const keywords[] = {"dbname", NULL}, *const values[] = {"x", NULL};
    pgaad_client *client;

    failed("client_new(, NULL)", PGAAD_INVALID_ARGUMENT, pgaad_client_new("", NULL, &errmsg));
    CHECK("client_new(NULL, NULL, NULL)", pgaad_client_new(NULL, NULL, NULL) == PGAAD_INVALID_ARGUMENT);
    CHECK("client_new(\"x\", , NULL)", pgaad_client_new("x", &made, NULL) == PGAAD_CONFIG && made == NULL);
    junk();
    failed("client_default(NULL)", PGAAD_INVALID_ARGUMENT, pgaad_client_default(NULL, &errmsg));
    CHECK("client_default(NULL, NULL)", pgaad_client_default(NULL, NULL) == PGAAD_INVALID_ARGUMENT);
    pgaad_client_free(NULL);

    pgaad_status status = pgaad_client_get_token(NULL, -1, &text, &expires_on, &errmsg);
    CHECK("client_get_token(NULL)", text == NULL && expires_on == 0);
    failed("client_get_token(NULL)", PGAAD_INVALID_ARGUMENT, status);
    CHECK("client_get_token(NULLs)", pgaad_client_get_token(NULL, 0, NULL, NULL, NULL) == PGAAD_INVALID_ARGUMENT);
    status = pgaad_client_get_user(NULL, &text, &errmsg);
    CHECK("client_get_user(NULL)", text == NULL);
    failed("client_get_user(NULL)", PGAAD_INVALID_ARGUMENT, status);
    CHECK("client_get_user(NULLs)", pgaad_client_get_user(NULL, NULL, NULL) == PGAAD_INVALID_ARGUMENT);
    status = pgaad_client_stats(NULL, &text, &errmsg);
    CHECK("client_stats(NULL)", text == NULL);
    failed("client_stats(NULL)", PGAAD_INVALID_ARGUMENT, status);
    CHECK("client_stats(NULLs)", pgaad_client_stats(NULL, NULL, NULL) == PGAAD_INVALID_ARGUMENT);
    status = pgaad_client_connstring(NULL, "", &text, &errmsg);
    CHECK("client_connstring(NULL)", text == NULL);
    failed("client_connstring(NULL)", PGAAD_INVALID_ARGUMENT, status);
    CHECK("client_connstring(NULLs)", pgaad_client_connstring(NULL, NULL, NULL, NULL) == PGAAD_INVALID_ARGUMENT);
    bad("client_connectdb(NULL)", PGAAD_INVALID_ARGUMENT, pgaad_client_connectdb(NULL, ""));
    bad("client_connectdb(NULL, NULL)", PGAAD_INVALID_ARGUMENT, pgaad_client_connectdb(NULL, NULL));
    bad("client_connectdb_params(NULL)", PGAAD_INVALID_ARGUMENT,
        pgaad_client_connectdb_params(NULL, keywords, values, 0));
    bad("client_connectdb_params(NULLs)", PGAAD_INVALID_ARGUMENT,
        pgaad_client_connectdb_params(NULL, NULL, NULL, 0));
    bad("client_connect_start(NULL)", PGAAD_INVALID_ARGUMENT, pgaad_client_connect_start(NULL, ""));
    bad("client_connect_start_params(NULLs)", PGAAD_INVALID_ARGUMENT,
        pgaad_client_connect_start_params(NULL, NULL, NULL, 0));
    PGconn *stranger = PQconnectdb(""), *same = stranger;
    failed("client_reset(NULL)", PGAAD_INVALID_ARGUMENT, pgaad_client_reset(NULL, &stranger, &errmsg));
    CHECK("client_reset(NULL)", stranger == same);
    CHECK("client_reset(NULLs)", pgaad_client_reset(NULL, NULL, NULL) == PGAAD_INVALID_ARGUMENT);
    PQfinish(stranger);
    status = pgaad_client_prefetch(NULL, &fd, &errmsg);
    CHECK("client_prefetch(NULL)", fd == -1);
    failed("client_prefetch(NULL)", PGAAD_INVALID_ARGUMENT, status);
    CHECK("client_prefetch(NULLs)", pgaad_client_prefetch(NULL, NULL, NULL) == PGAAD_INVALID_ARGUMENT);
    failed("client_invalidate(NULL)", PGAAD_INVALID_ARGUMENT, pgaad_client_invalidate(NULL, &errmsg));
    CHECK("client_invalidate(NULL, NULL)", pgaad_client_invalidate(NULL, NULL) == PGAAD_INVALID_ARGUMENT);

    /* The same for a client of each kind: made from NULL, that is the environment, and the default one. */
    for (int kind = 0; kind < 2; kind++) {
        if (kind == 0)
            status = pgaad_client_new(NULL, &client, &errmsg);
        else
            status = pgaad_client_default(&client, &errmsg);
        worked("a client", status);
        status = pgaad_client_get_token(client, INT_MIN, NULL, &expires_on, &errmsg);
        CHECK("client_get_token(, NULL)", expires_on == 0);
        failed("client_get_token(, NULL)", PGAAD_INVALID_ARGUMENT, status);
        const struct {
            int timeout;
            pgaad_status status;
        } calls[] = {
            {INT_MIN, PGAAD_UNAVAILABLE}, {-1, PGAAD_UNAVAILABLE}, {0, PGAAD_TIMEOUT}, {INT_MAX, PGAAD_UNAVAILABLE}
        };
        for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
            status = pgaad_client_get_token(client, calls[i].timeout, &text, i % 2 ? NULL : &expires_on, &errmsg);
            CHECK("client_get_token", text == NULL && (i % 2 || expires_on == 0));
            failed("client_get_token", calls[i].status, status);
        }
        failed("client_get_user(, NULL)", PGAAD_INVALID_ARGUMENT, pgaad_client_get_user(client, NULL, &errmsg));
        status = pgaad_client_get_user(client, &text, &errmsg);
        CHECK("client_get_user", text == NULL);
        failed("client_get_user", PGAAD_UNAVAILABLE, status);
        failed("client_stats(, NULL)", PGAAD_INVALID_ARGUMENT, pgaad_client_stats(client, NULL, &errmsg));
        status = pgaad_client_stats(client, &text, &errmsg);
        CHECK("client_stats", text && text != JUNK && *text == '{');
        pgaad_free(text);
        worked("client_stats", status);
        failed("client_connstring(, NULL)", PGAAD_INVALID_ARGUMENT,
               pgaad_client_connstring(client, "", NULL, &errmsg));
        status = pgaad_client_connstring(client, NULL, &text, &errmsg);
        CHECK("client_connstring(, NULL)", text && text != JUNK);
        pgaad_free(text);
        worked("client_connstring(, NULL)", status);
        bad("client_connectdb(, NULL)", PGAAD_OK, pgaad_client_connectdb(client, NULL));
        bad("client_connectdb_params(, NULL, )", PGAAD_INVALID_ARGUMENT,
            pgaad_client_connectdb_params(client, NULL, values, 0));
        bad("client_connectdb_params(, , NULL)", PGAAD_INVALID_ARGUMENT,
            pgaad_client_connectdb_params(client, keywords, NULL, 1));
        bad("client_connect_start(, NULL)", PGAAD_OK, pgaad_client_connect_start(client, NULL));
        bad("client_connect_start_params(, NULL, )", PGAAD_INVALID_ARGUMENT,
            pgaad_client_connect_start_params(client, NULL, values, 0));
        failed("client_reset(, NULL)", PGAAD_INVALID_ARGUMENT, pgaad_client_reset(client, NULL, &errmsg));
        failed("client_prefetch(, NULL)", PGAAD_INVALID_ARGUMENT, pgaad_client_prefetch(client, NULL, &errmsg));
        worked("client_prefetch", pgaad_client_prefetch(client, &fd, &errmsg));
        junk();
        pgaad_client_prefetch(client, &fd, NULL);
        CHECK("client_prefetch", fd >= 0 && !close(fd));
        worked("client_invalidate", pgaad_client_invalidate(client, &errmsg));
        CHECK("client_invalidate(, NULL)", pgaad_client_invalidate(client, NULL) == PGAAD_OK);
        pgaad_client_free(client);
    }
    /* Freeing the default client did nothing. */
    worked("the default client, after its free", pgaad_client_invalidate(client, &errmsg));
    failed("use_libpq, after a connect", PGAAD_INVALID_ARGUMENT, pgaad_use_libpq(linked, NULL, &errmsg));
}

/* The same garbage each time. */
static unsigned next_random(void)
{
    static unsigned state = 20250101;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static void garbage(char *place, unsigned longest)
{
    static const char letters[] = "''\\\\== \t\n%%//::@@??&&,,[]\"#;ax01\x01\x7f\x80\xc3\xbc\xf0\xff";
    unsigned length = next_random() % longest;
    for (unsigned i = 0; i < length; i++)
        *place++ = letters[next_random() % (sizeof letters - 1)];
    *place = '\0';
}

/* One of the statuses in `allowed`, with outputs to match. */
static void either(const char *what, unsigned allowed, pgaad_status status, const void *output)
{
    CHECK(what, status >= 0 && (allowed & 1U << status));
    CHECK(what, (output != NULL) == (status == PGAAD_OK) && output != JUNK);
    if (status == PGAAD_OK)
        CHECK(what, errmsg == NULL);
    else
        CHECK(what, errmsg && errmsg != JUNK && is_message(errmsg, strlen(errmsg)));
    pgaad_free(errmsg == JUNK ? NULL : errmsg);
    errmsg = JUNK;
}

static void garbage_for_strings(int times)
{
    char one[256], other[256];
    const unsigned readable = 1U << PGAAD_OK | 1U << PGAAD_CONFIG;
    for (int i = 0; i < times; i++) {
        /* Settings must be UTF-8. */
        garbage(one, 100);
        junk();
        pgaad_status status = pgaad_client_new(one, &made, &errmsg);
        either(one, readable | 1U << PGAAD_INVALID_ARGUMENT, status, made);
        if (status == PGAAD_OK)
            pgaad_client_free(made);
        /* Connection strings are bytes; a URI would name a host. */
        strcpy(one, i % 3 ? "" : "postgresql://");
        garbage(one + strlen(one), 200);
        junk();
        status = pgaad_connstring(one, &text, &errmsg);
        either(one, readable, status, text);
        if (status == PGAAD_OK)
            pgaad_free(text);
        /* What libpq can read leads to PGHOST. */
        if (i % 3 == 0 || i > 300)
            continue;
        bad(one, PGAAD_OK, pgaad_connectdb(one));
        bad(one, PGAAD_OK, pgaad_connect_start(one));
        garbage(other, 20);
        const char *const keywords[] = {"dbname", other, NULL}, *const values[] = {one, one, NULL};
        bad(one, PGAAD_OK, pgaad_connectdb_params(keywords, values, (int) next_random()));
    }
}

static void long_strings(void)
{
    const size_t size = 5 << 20;
    char *string = malloc(size + 1);
    if (!string)
        exit(2);
    memset(string, 'x', size);
    string[size] = '\0';
    junk();
    pgaad_status status = pgaad_client_new(string, &made, &errmsg);
    either("5 MB of settings", 1U << PGAAD_CONFIG, status, made);
    junk();
    status = pgaad_connstring(string, &text, &errmsg);
    either("5 MB of conninfo", 1U << PGAAD_CONFIG, status, text);
    bad("5 MB of conninfo", PGAAD_OK, pgaad_connectdb(string));
    const char *const keywords[] = {"application_name", string, NULL}, *const values[] = {string, "x", NULL};
    bad("5 MB of keyword", PGAAD_OK, pgaad_connectdb_params(keywords, values, 0));
    memcpy(string, "application_name=", 17);
    junk();
    status = pgaad_connstring(string, &text, &errmsg);
    either("5 MB of value", 1U << PGAAD_OK, status, text);
    if (status == PGAAD_OK) {
        CHECK("5 MB of value", strlen(text) >= size);
        pgaad_free(text);
    }
    bad("5 MB of value", PGAAD_OK, pgaad_connectdb(string));
    free(string);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    junk();
    null_before_the_first_connect();
    null_for_the_short_way();
    null_for_the_long_way();
    null_for_callbacks();
    garbage_for_strings(atoi(argv[1]));
    long_strings();
    puts("done");
    return broken;
}

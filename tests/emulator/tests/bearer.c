/* Signs in to a server that asks for OAUTHBEARER, with the token at hand, and prints what the server calls the user.
 * Of libpq 18, which the headers at hand may be too old for. */
#include <dlfcn.h>
#include <libpq-fe.h>
#include <stdio.h>

struct request {
    const char *openid_configuration, *scope;
    int (*async)(PGconn *, struct request *, int *);
    void (*cleanup)(PGconn *, struct request *);
    char *token;
    void *user;
};

static char *token;

static int answer(int type, PGconn *conn, void *data)
{
    (void) conn;
    if (type != 1) /* a bearer token */
        return 0;
    ((struct request *) data)->token = token;
    return 1;
}

int main(int argc, char **argv)
{
    void (*set_hook)(int (*)(int, PGconn *, void *)) =
        (void (*)(int (*)(int, PGconn *, void *))) dlsym(RTLD_DEFAULT, "PQsetAuthDataHook");
    if (argc != 3 || !set_hook)
        return 2;
    token = argv[2];
    set_hook(answer);
    PGconn *conn = PQconnectdb(argv[1]);
    PGresult *result = PQstatus(conn) == CONNECTION_OK ? PQexec(conn, "select system_user") : NULL;
    int ok = PQresultStatus(result) == PGRES_TUPLES_OK;
    if (ok)
        puts(PQgetvalue(result, 0, 0));
    else
        fputs(PQerrorMessage(conn), stderr);
    PQclear(result);
    PQfinish(conn);
    return !ok;
}

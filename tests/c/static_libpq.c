/* A program with libpgaad.a and a libpq of its own linked into it, while another libpq is loaded: the one linked counts.
 * It is no real one, but tells that it was called. */
#include <dlfcn.h>
#include <libpq-events.h>
#include <libpq-fe.h>
#include <pgaad.h>
#include <stdio.h>
#include <string.h>

struct pg_conn {
    char message[8192];
};

static struct pg_conn only;
static int connects;

int PQlibVersion(void)
{
    return 170099;
}

int PQisthreadsafe(void)
{
    return 1;
}

PGconn *PQconnectdb(const char *conninfo)
{
    (void) conninfo;
    connects++;
    return &only;
}

PGconn *PQconnectStart(const char *conninfo)
{
    return PQconnectdb(conninfo);
}

PGconn *PQconnectdbParams(const char *const *keywords, const char *const *values, int expand_dbname)
{
    (void) keywords;
    (void) values;
    (void) expand_dbname;
    connects++;
    return &only;
}

/* Refuses all, with what it was given as reason. */
PGconn *PQconnectStartParams(const char *const *keywords, const char *const *values, int expand_dbname)
{
    (void) expand_dbname;
    only.message[0] = '\0';
    for (; *keywords; keywords++, values++)
        snprintf(only.message + strlen(only.message), sizeof only.message - strlen(only.message), "%s=%s\n", *keywords,
                 *values ? *values : "");
    return &only;
}

void PQreset(PGconn *conn)
{
    (void) conn;
}

int PQconnectionUsedPassword(const PGconn *conn)
{
    (void) conn;
    return 0;
}

void PQfinish(PGconn *conn)
{
    (void) conn;
}

int PQsocket(const PGconn *conn)
{
    (void) conn;
    return -1;
}

ConnStatusType PQstatus(const PGconn *conn)
{
    (void) conn;
    return CONNECTION_BAD;
}

char *PQerrorMessage(const PGconn *conn)
{
    (void) conn;
    return only.message;
}

char *PQpass(const PGconn *conn)
{
    (void) conn;
    return NULL;
}

static PQconninfoOption options[] = {{.keyword = "host"}, {.keyword = NULL}};

PQconninfoOption *PQconninfo(PGconn *conn)
{
    (void) conn;
    return options;
}

PQconninfoOption *PQconninfoParse(const char *conninfo, char **errmsg)
{
    (void) conninfo;
    (void) errmsg;
    return options;
}

void PQconninfoFree(PQconninfoOption *list)
{
    (void) list;
}

void PQfreemem(void *memory)
{
    (void) memory;
}

int PQregisterEventProc(PGconn *conn, PGEventProc proc, const char *name, void *pass_through)
{
    (void) conn;
    (void) proc;
    (void) name;
    (void) pass_through;
    return 1;
}

int PQsetInstanceData(PGconn *conn, PGEventProc proc, void *data)
{
    (void) conn;
    (void) proc;
    (void) data;
    return 1;
}

void *PQinstanceData(const PGconn *conn, PGEventProc proc)
{
    (void) conn;
    (void) proc;
    return NULL;
}

int main(void)
{
    int version;
    char *path, *errmsg;
    if (!dlopen("libpq.so.5", RTLD_NOW | RTLD_GLOBAL)) {
        puts(dlerror());
        return 1;
    }
    if (pgaad_libpq(&version, &path, &errmsg) != PGAAD_OK) {
        puts(errmsg);
        return 1;
    }
    printf("%d in %s\n", version, path);
    pgaad_free(path);
    PGconn *conn = pgaad_connectdb("host=/nonexistent");
    printf("%s, %d call%s\n", conn == &only ? "its connection" : "another's connection", connects,
           connects == 1 ? "" : "s");
    return 0;
}

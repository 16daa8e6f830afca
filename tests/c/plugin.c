/* A plug-in that links pgaad and libpq, for a program that links neither: load_plugin.c. */
#include <libpq-fe.h>
#include <pgaad.h>
#include <stdio.h>

int plugin_connects(const char *conninfo)
{
    char *path, *errmsg;
    int version;
    PGconn *conn = pgaad_connectdb(conninfo);
    pgaad_status status = pgaad_libpq(&version, &path, &errmsg);
    printf("plugin status=%s conn=%s version=%s path=%s errmsg=%s\n", pgaad_status_name(status),
           PQstatus(conn) == CONNECTION_OK ? "OK" : conn ? "BAD" : "NULL", version == PQlibVersion() ? "same" : "another",
           path ? path : "", errmsg ? errmsg : "");
    pgaad_free(path);
    pgaad_free(errmsg);
    PQfinish(conn);
    return 0;
}

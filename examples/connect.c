/* Signs in with the identity in the environment. PQconnectdb became pgaad_connectdb; nothing else changed.
 *
 *   cc connect.c $(pkg-config --cflags --libs pgaad libpq) -o connect
 */
#include <stdio.h>
#include <libpq-fe.h>
#include <pgaad.h>

int main(int argc, char **argv)
{
    PGconn *conn = pgaad_connectdb(argc > 1 ? argv[1] : "");
    if (PQstatus(conn) != CONNECTION_OK) {
        fprintf(stderr, "%s", PQerrorMessage(conn));
        PQfinish(conn);
        return 1;
    }
    PGresult *result = PQexec(conn, "SELECT current_user, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
    printf("signed in as %s over %s\n", PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1));
    PQclear(result);
    PQfinish(conn);
    return 0;
}

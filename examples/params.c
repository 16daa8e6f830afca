/* Connects with keyword and value arrays, as drivers do, and tells our failures from the server's.
 *
 *   cc params.c $(pkg-config --cflags --libs pgaad libpq) -o params
 */
#include <stdio.h>
#include <libpq-fe.h>
#include <pgaad.h>

int main(int argc, char **argv)
{
    /* Later entries win; with expand_dbname a connection string in dbname is taken apart. */
    const char *keywords[] = {"application_name", "connect_timeout", "dbname", NULL};
    const char *values[] = {"params example", "10", argc > 1 ? argv[1] : NULL, NULL};
    PGconn *conn = pgaad_connectdb_params(keywords, values, 1);
    if (PQstatus(conn) != CONNECTION_OK) {
        pgaad_status status = pgaad_connection_status(conn);
        if (status == PGAAD_OK)
            fprintf(stderr, "the server or the network says: %s", PQerrorMessage(conn));
        else
            fprintf(stderr, "%s: %s", pgaad_status_name(status), PQerrorMessage(conn));
        PQfinish(conn);
        return 1;
    }
    printf("connected to %s as %s\n", PQdb(conn), PQuser(conn));
    PQfinish(conn);
    return 0;
}

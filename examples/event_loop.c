/* Connects from an event loop, which never waits for a token or for the server, and resets a lost connection.
 *
 *   cc event_loop.c $(pkg-config --cflags --libs pgaad libpq) -o event_loop
 */
#include <poll.h>
#include <stdio.h>
#include <unistd.h>
#include <libpq-fe.h>
#include <pgaad.h>

/* A real loop has other descriptors to wait for, too. */
static void wait_for(int fd, short what)
{
    struct pollfd one = {fd, what, 0};
    poll(&one, 1, -1);
}

int main(int argc, char **argv)
{
    pgaad_client *client;
    char *errmsg;
    int fd;
    if (pgaad_client_default(&client, &errmsg) != PGAAD_OK
        || pgaad_client_prefetch(client, &fd, &errmsg) != PGAAD_OK) {
        fprintf(stderr, "%s\n", errmsg);
        pgaad_free(errmsg);
        return 1;
    }
    wait_for(fd, POLLIN); /* readable: the token is there, or there is none, which the connect will say */
    close(fd);

    PGconn *conn = pgaad_client_connect_start(client, argc > 1 ? argv[1] : "");
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;
    while (PQstatus(conn) != CONNECTION_BAD && state != PGRES_POLLING_OK && state != PGRES_POLLING_FAILED) {
        wait_for(PQsocket(conn), state == PGRES_POLLING_READING ? POLLIN : POLLOUT);
        state = PQconnectPoll(conn);
    }
    if (PQstatus(conn) != CONNECTION_OK) {
        fprintf(stderr, "%s", PQerrorMessage(conn));
        PQfinish(conn);
        return 1;
    }
    printf("signed in as %s\n", PQuser(conn));

    /* The server ends the session. PQreset would send the old token; this one fetches another if need be. */
    PQclear(PQexec(conn, "SELECT pg_terminate_backend(pg_backend_pid())"));
    if (PQstatus(conn) == CONNECTION_BAD && pgaad_reset(&conn, &errmsg) != PGAAD_OK) {
        fprintf(stderr, "%s\n", errmsg);
        pgaad_free(errmsg);
    }
    printf("%s\n", PQstatus(conn) == CONNECTION_OK ? "reset" : "lost");
    PQfinish(conn);
    return 0;
}

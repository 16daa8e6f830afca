/* Connects with a token of the program's own: here it is the contents of a file that something else renews.
 *
 *   cc callback.c $(pkg-config --cflags --libs pgaad libpq) -o callback
 *   ./callback /run/token "host=myserver.postgres.database.azure.com dbname=postgres user=app-one"
 */
#include <stdio.h>
#include <string.h>
#include <libpq-fe.h>
#include <pgaad.h>

static void fetch(void *userdata, const char *scope, int timeout_ms, pgaad_answer *answer)
{
    char token[8192] = "";
    FILE *file = fopen(userdata, "r");
    (void)scope;
    (void)timeout_ms;
    if (!file || !fgets(token, sizeof token, file)) {
        pgaad_answer_error(answer, PGAAD_UNAVAILABLE, "the token file cannot be read.");
    } else {
        token[strcspn(token, "\r\n")] = '\0';
        /* 0: until when it is good stands in the token itself. */
        pgaad_answer_token(answer, token, 0);
    }
    if (file)
        fclose(file);
}

int main(int argc, char **argv)
{
    pgaad_client *client;
    char *errmsg;
    if (argc < 2) {
        fprintf(stderr, "usage: callback TOKENFILE [CONNINFO]\n");
        return 2;
    }
    if (pgaad_client_new_callback("", fetch, argv[1], NULL, &client, &errmsg) != PGAAD_OK) {
        fprintf(stderr, "%s\n", errmsg);
        pgaad_free(errmsg);
        return 1;
    }
    PGconn *conn = pgaad_client_connectdb(client, argc > 2 ? argv[2] : "");
    int ok = PQstatus(conn) == CONNECTION_OK;
    if (ok)
        printf("signed in as %s\n", PQuser(conn));
    else
        fprintf(stderr, "%s", PQerrorMessage(conn));
    PQfinish(conn);
    pgaad_client_free(client);
    return !ok;
}

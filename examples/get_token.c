/* Gets a token, for drivers that are not built on libpq and take a password of their own.
 *
 *   cc get_token.c $(pkg-config --cflags --libs pgaad) -o get_token
 */
#include <stdio.h>
#include <string.h>
#include <pgaad.h>

int main(int argc, char **argv)
{
    pgaad_client *client;
    char *token, *errmsg;
    int64_t expires_on;
    /* Settings as in a connection string; what they leave out comes from the environment. */
    pgaad_status status = pgaad_client_new(argc > 1 ? argv[1] : "", &client, &errmsg);
    if (status == PGAAD_OK) {
        status = pgaad_client_get_token(client, 10000, &token, &expires_on, &errmsg);
        if (status == PGAAD_OK) {
            /* The token itself belongs on no screen. */
            printf("a token of %zu characters, good until %lld\n", strlen(token), (long long) expires_on);
            pgaad_free(token);
        }
        pgaad_client_free(client);
    }
    if (status != PGAAD_OK)
        fprintf(stderr, "%s: %s\n", pgaad_status_name(status), errmsg);
    pgaad_free(errmsg);
    return status == PGAAD_OK ? 0 : 1;
}

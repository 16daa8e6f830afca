/* Finishes failed connections of pgaad's, and asks for the status of libpq's own that come to stand in their place. */
#include <libpq-fe.h>
#include <pgaad.h>
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    int same = 0;
    setenv("PGAAD_TENANT_ID", "11111111-2222-3333-4444-555555555555", 1);
    setenv("PGAAD_CLIENT_ID", "aaaaaaaa-0000-0000-0000-000000000001", 1);
    setenv("PGAAD_CLIENT_SECRET", "never sent", 1);
    for (int i = 0; i < 200; i++) {
        PGconn *ours = pgaad_connectdb("host=stranger.example user=a");
        if (pgaad_connection_status(ours) != PGAAD_INSECURE) {
            printf("not refused: %s", PQerrorMessage(ours));
            return 1;
        }
        PQfinish(ours);
        PGconn *theirs = PQconnectdb(i % 2 ? "bogus=1" : "host=/nonexistent");
        same += theirs == ours;
        if (pgaad_connection_status(theirs) != PGAAD_OK) {
            printf("libpq's own has a status of ours\n");
            return 1;
        }
        PQfinish(theirs);
    }
    printf("same address: %d\n", same);
    return 0;
}

/* One token in a new process. With an argument: prints the most memory that was resident meanwhile, in KiB.
 * VmHWM, since ru_maxrss counts what the process was before exec as well. */
#include <pgaad.h>
#include <stdio.h>
#include <string.h>

static long peak_memory(void)
{
    char line[256];
    long kib = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    if (status)
        fclose(status);
    return kib;
}

int main(int argc, char **argv)
{
    char *token, *errmsg;
    (void) argv;
    if (argc > 2) {
        printf("%ld\n", peak_memory()); /* of a program that does nothing */
        return 0;
    }
    if (pgaad_get_token(&token, &errmsg) != PGAAD_OK) {
        fprintf(stderr, "%s\n", errmsg);
        return 1;
    }
    if (strlen(token) < 1000)
        return 1;
    pgaad_free(token);
    if (argc > 1)
        printf("%ld\n", peak_memory());
    return 0;
}

/* Stands for an az that is hard to end: it prints nothing, leaves its process group for its host's and, where it is
 * setuid, becomes root altogether. Its id is in az.id beside it. It ends with its host. */
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char path[4096];
    FILE *id;
    pid_t host = getppid();
    (void)argc;
    snprintf(path, sizeof path, "%s.id", argv[0]);
    id = fopen(path, "w");
    if (!id || setpgid(0, getpgid(host)) || setuid(geteuid()))
        return 1;
    fprintf(id, "%ld\n", (long)getpid());
    fclose(id);
    while (getppid() == host)
        usleep(10000);
    return 1;
}

/* Stands for az where a shell would hide something: writes what it was started with beside itself, as az.saw. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    char line[4096];
    FILE *saw, *status;
    DIR *folder;
    struct dirent *entry;
    (void)argc;
    snprintf(line, sizeof line, "%s.saw", argv[0]);
    folder = opendir("/proc/self/fd");
    saw = fopen(line, "w");
    status = fopen("/proc/self/status", "r");
    if (!saw || !status || !folder)
        return 1;
    while (fgets(line, sizeof line, status))
        if (!strncmp(line, "SigBlk:", 7) || !strncmp(line, "SigIgn:", 7))
            fprintf(saw, "%.7s %s", line, strpbrk(line, "0123456789abcdef"));
    /* All but the three, and those of this function: folder, saw, status. */
    while ((entry = readdir(folder)))
        if (strcmp(entry->d_name, "0") && strcmp(entry->d_name, "1") && strcmp(entry->d_name, "2") && entry->d_name[0] != '.')
            fprintf(saw, "descriptor %s\n", entry->d_name);
    fclose(saw);
    return 5;
}

/* A program without libpq: says how long the token is, writes each argument's connstring, and says whether a libpq is
 * there in the end. A connstring is printed with all but letters and digits as %XX.
 *
 * with_libpq.c is the same with one, which says that it is version PRETENDED if that is set. */
#define _GNU_SOURCE
#include <ctype.h>
#include <dlfcn.h>
#include <pgaad.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int libpq_is_loaded(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[4096];
    int found = 0;
    while (maps && fgets(line, sizeof line, maps))
        found |= strstr(line, "/libpq.") != NULL;
    if (!maps)
        abort();
    fclose(maps);
    return found;
}

#ifdef WITH_LIBPQ
static int pretended(void)
{
    return atoi(getenv("PRETENDED"));
}

static void *symbol(const char *name, void *unused)
{
    (void) unused;
    return strcmp(name, "PQlibVersion") ? dlsym(RTLD_DEFAULT, name) : (void *) pretended;
}
#endif

int main(int argc, char **argv)
{
    char *text, *errmsg;
    pgaad_status status;
#ifdef WITH_LIBPQ
    if (getenv("PRETENDED") && pgaad_use_libpq(symbol, NULL, NULL))
        return 3;
#endif
    status = pgaad_get_token(&text, &errmsg);
    printf("get_token status=%s length=%zu errmsg=%s\n", pgaad_status_name(status), text ? strlen(text) : 0,
           errmsg ? errmsg : "");
    pgaad_free(text);
    pgaad_free(errmsg);
    for (int i = 1; i < argc; i++) {
        status = pgaad_connstring(strcmp(argv[i], "@NULL") ? argv[i] : NULL, &text, &errmsg);
        printf("connstring status=%s encoded=", pgaad_status_name(status));
        for (const unsigned char *c = (unsigned char *) text; c && *c; c++)
            printf(isalnum(*c) ? "%c" : "%%%02X", *c);
        printf(" errmsg=%s\n", errmsg ? errmsg : "");
        pgaad_free(text);
        pgaad_free(errmsg);
    }
    printf("libpq %s\n", libpq_is_loaded() ? "yes" : "no");
    return 0;
}

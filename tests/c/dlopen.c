/* A program that links neither pgaad nor libpq: loads the library named by its argument and unloads it, again and
 * again. The environment has an identity and a database. */
#include <dlfcn.h>
#include <pgaad.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *library;

static void fail(const char *why)
{
    printf("%s\n", why);
    exit(1);
}

/* ISO C has no conversion from dlsym's void * to a function. */
#define FIND(from, name, pointer) \
    do { \
        void *address = dlsym(from, name); \
        if (!address) \
            fail(name " is missing"); \
        memcpy(&(pointer), &address, sizeof(pointer)); \
    } while (0)

static __typeof__(pgaad_get_token) *get_token;
static __typeof__(pgaad_free) *give_back;

static int is_mapped(const char *name)
{
    char line[4096];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps))
        found |= strstr(line, name) != NULL;
    if (maps)
        fclose(maps);
    return found;
}

static void load(const char *path, int how)
{
    __typeof__(pgaad_version) *version;
    if (!(library = dlopen(path, how)))
        fail(dlerror());
    FIND(library, "pgaad_version", version);
    FIND(library, "pgaad_get_token", get_token);
    FIND(library, "pgaad_free", give_back);
    if (strcmp(version(), PGAAD_VERSION))
        fail(version());
}

static void get(void)
{
    char *token, *errmsg;
    if (get_token(&token, &errmsg) != PGAAD_OK)
        fail(errmsg);
    give_back(token);
}

static void connect_to_database(void)
{
    struct pg_conn *(*connectdb)(const char *), *conn;
    int (*status)(struct pg_conn *);
    char *(*message)(struct pg_conn *);
    void (*finish)(struct pg_conn *);
    FIND(library, "pgaad_connectdb", connectdb);
    if (!(conn = connectdb("")))
        fail("no libpq");
    void *libpq = dlopen("libpq.so.5", RTLD_LAZY | RTLD_NOLOAD);
    if (!libpq)
        fail("libpq.so.5 is not loaded");
    FIND(libpq, "PQstatus", status);
    FIND(libpq, "PQerrorMessage", message);
    FIND(libpq, "PQfinish", finish);
    if (status(conn))
        fail(message(conn));
    finish(conn);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    for (int i = 0; i < 100; i++) {
        load(argv[1], i % 2 ? RTLD_NOW | RTLD_LOCAL : RTLD_LAZY | RTLD_GLOBAL);
        get();
        if (dlclose(library))
            fail(dlerror());
    }
    if (is_mapped("libpq.so"))
        fail("a token needs no libpq");
    if (!is_mapped("libpgaad.so"))
        fail("the library is gone");

    /* Unloaded as it may seem, it serves on, also in a child. */
    get();
    pid_t child = fork();
    if (child == 0) {
        get();
        exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) != child || status)
        fail("the child failed");

    load(argv[1], RTLD_NOW);
    connect_to_database();
    dlclose(library);
    puts("done");
    return 0;
}

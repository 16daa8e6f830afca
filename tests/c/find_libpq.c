/* A program that does not link libpq, and uses the one that pgaad finds. Arguments are commands:
 *
 *   local PATH | global PATH   loads a libpq, for itself or for all
 *   libpq                      pgaad_libpq
 *   connect CONNINFO           pgaad_connectdb; the connection is asked and finished by the libpq that pgaad names
 *   connstring CONNINFO | get_token
 *   use PATH | use PATH BUT    pgaad_use_libpq with the functions of that file, all but one
 *   use_version N              the same with those of the last that was loaded, which says that it is this version
 *   use_nothing                pgaad_use_libpq with NULL
 *   asked                      how often our resolver was asked so far
 *   setenv NAME VALUE
 *
 * linked_libpq.c is the same, linked with libpq. */
#include <dlfcn.h>
#include <pgaad.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *last;
static int asked, version;
static const char *missing;

static void report(const char *command, pgaad_status status, const char *value, char *errmsg)
{
    printf("%s status=%s got=%s errmsg=%s\n", command, pgaad_status_name(status), value ? value : "", errmsg ? errmsg : "");
    fflush(stdout);
    pgaad_free(errmsg);
}

static void *load(const char *path, int flags)
{
    void *library = dlopen(path, RTLD_NOW | flags);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
    return library;
}

static int say_version(void)
{
    return version;
}

static void *symbol(const char *name, void *library)
{
    asked++;
    if (missing && !strcmp(name, missing))
        return NULL;
    if (version && !strcmp(name, "PQlibVersion"))
        return (void *) say_version;
    return dlsym(library, name);
}

static void say_libpq(void)
{
    int number = -1;
    char *path, *errmsg, text[4096];
    pgaad_status status = pgaad_libpq(&number, &path, &errmsg);
    snprintf(text, sizeof text, "%d:%s", number, path ? path : "");
    report("libpq", status, text, errmsg);
    pgaad_free(path);
}

static void connect(const char *conninfo)
{
    struct pg_conn *conn = pgaad_connectdb(conninfo);
    if (!conn) {
        printf("connect NULL\n");
        return;
    }
    char *path, *errmsg;
    int number;
    if (pgaad_libpq(&number, &path, &errmsg))
        exit(3);
    void *owner = load(path, RTLD_LOCAL | RTLD_NOLOAD);
    int (*status)(struct pg_conn *) = (int (*)(struct pg_conn *)) dlsym(owner, "PQstatus");
    char *(*message)(struct pg_conn *) = (char *(*)(struct pg_conn *)) dlsym(owner, "PQerrorMessage");
    void (*finish)(struct pg_conn *) = (void (*)(struct pg_conn *)) dlsym(owner, "PQfinish");
    char *text = strdup(message(conn));
    text[strcspn(text, "\n")] = '\0';
    report("connect", pgaad_connection_status(conn), status(conn) ? "BAD" : "OK", NULL);
    printf("message %s\n", text);
    free(text);
    finish(conn);
    pgaad_free(path);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *command = argv[i];
        char *value = NULL, *errmsg = NULL;
        if (!strcmp(command, ";"))
            continue;
        const char *argument = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(command, "libpq")) {
            say_libpq();
            continue;
        } else if (!strcmp(command, "asked")) {
            printf("asked %d\n", asked);
            continue;
        } else if (!strcmp(command, "use_nothing")) {
            pgaad_status status = pgaad_use_libpq(NULL, NULL, &errmsg);
            report(command, status, NULL, errmsg);
            continue;
        } else if (!strcmp(command, "get_token")) {
            pgaad_status status = pgaad_get_token(&value, &errmsg);
            report(command, status, NULL, errmsg);
            pgaad_free(value);
            continue;
        }
        i++;
        if (!strcmp(command, "local")) {
            last = load(argument, RTLD_LOCAL);
        } else if (!strcmp(command, "global")) {
            last = load(argument, RTLD_GLOBAL);
        } else if (!strcmp(command, "connect")) {
            connect(argument);
        } else if (!strcmp(command, "connstring")) {
            pgaad_status status = pgaad_connstring(argument, &value, &errmsg);
            report(command, status, NULL, errmsg);
            pgaad_free(value);
        } else if (!strcmp(command, "use")) {
            missing = i + 1 < argc && strcmp(argv[i + 1], ";") ? argv[++i] : NULL;
            pgaad_status status = pgaad_use_libpq(symbol, load(argument, RTLD_LOCAL), &errmsg);
            report(command, status, NULL, errmsg);
        } else if (!strcmp(command, "use_version")) {
            version = atoi(argument);
            missing = NULL;
            pgaad_status status = pgaad_use_libpq(symbol, last, &errmsg);
            report(command, status, NULL, errmsg);
        } else if (!strcmp(command, "setenv") && i + 1 < argc) {
            setenv(argument, argv[++i], 1);
        } else {
            fprintf(stderr, "bad command %s\n", command);
            return 2;
        }
    }
    return 0;
}

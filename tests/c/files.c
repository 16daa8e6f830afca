/* Compares how service and password files are read: by pgaad in a program without libpq, and by a libpq that it doesn't
 * see, since that is in a namespace of its own.
 *
 *   files services SEED COUNT    the file that PGSERVICEFILE names, for a client that is on
 *   files passfiles SEED COUNT   the file that PGPASSFILE names, for a client that decides by it
 *
 * Prints counts, or the first difference with its seed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <libpq-fe.h>
#include <pgaad.h>
#include <sys/stat.h>
#include <unistd.h>

#include "random.h"

static pgaad_client *client;

static PGconn *(*start)(const char *const *, const char *const *, int);
static char *(*message)(const PGconn *);
static char *(*password)(const PGconn *);
static PQconninfoOption *(*options_of)(PGconn *);
static void (*finish)(PGconn *);
static void (*free_options)(PQconninfoOption *);

static void *library;

static void *function(const char *name)
{
    void *found = dlsym(library, name);
    if (!found) {
        fprintf(stderr, "files: no %s\n", name);
        exit(2);
    }
    return found;
}

static void open_libpq(void)
{
    library = dlmopen(LM_ID_NEWLM, "libpq.so.5", RTLD_NOW);
    if (!library) {
        fprintf(stderr, "files: %s\n", dlerror());
        exit(2);
    }
    *(void **) &start = function("PQconnectStartParams");
    *(void **) &message = function("PQerrorMessage");
    *(void **) &password = function("PQpass");
    *(void **) &options_of = function("PQconninfo");
    *(void **) &finish = function("PQfinish");
    *(void **) &free_options = function("PQconninfoFree");
}

/* What libpq makes of it. It stops before it looks a host up, at a value that it doesn't know; or earlier. */
static PGconn *read_by_libpq(const char *conninfo)
{
    const char *const keywords[] = { "dbname", "target_session_attrs", NULL };
    const char *const values[] = { conninfo, "\x01", NULL };
    return start(keywords, values, 1);
}

static int is_read(PGconn *conn)
{
    return strstr(message(conn), "target_session_attrs") != NULL;
}

static void write_file(const char *variable, struct text *text, int mode)
{
    const char *path = getenv(variable);
    FILE *file = fopen(path, "w");
    if (!file || fwrite(text->bytes, 1, text->length, file) != text->length || fclose(file) || chmod(path, mode)) {
        perror(path);
        exit(2);
    }
}

static void add_some(struct text *text, const char *characters, size_t most)
{
    for (size_t n = below(most + 1); n; n--)
        add(text, characters[below(strlen(characters))]);
}

static void service_line(struct text *text)
{
    static const char *const titles[] = { "[mine]", "[mine]", "[mine]", "[other]", "[mine", "[mine]x", "[ mine]", "[min]",
                                          "[mine2]", "[MINE]", "[]", "[[mine]" };
    static const char *const keywords[] = { "host", "host", "port", "user", "hostaddr", "dbname", "application_name",
                                            "connect_timeout", "requirepeer", "options", "password" };
    static const char *const hosts[] = { "localhost", "127.0.0.1", "LOCALHOST" };
    static const char *const odd[] = { "# host=evil", "#", ";x", "host", "=", "host =localhost", "b-d=1", "service=other",
                                       "user=a=b", "user= a", "'user'=x", "options=x#y", "nested" };
    if (one_in(4))
        add_some(text, " \t\v\f", 3);
    if (one_in(3)) {
        add_all(text, PICK(titles));
    } else if (one_in(25)) {
        add_all(text, PICK(odd));
    } else {
        const char *keyword = PICK(keywords);
        add_all(text, keyword);
        add(text, '=');
        if (!strcmp(keyword, "host"))
            add_all(text, PICK(hosts));
        else if (!strcmp(keyword, "hostaddr"))
            add_all(text, one_in(4) ? "" : "127.0.0.1");
        else if (!strcmp(keyword, "port") || !strcmp(keyword, "connect_timeout"))
            add_some(text, "123456789", 4);
        else
            for (size_t n = one_in(60) ? 1000 + below(40) : below(12); n; n--)
                add(text, one_in(4) ? " '\\=#%[]"[below(8)] : (char) ('a' + below(26)));
    }
    if (one_in(5))
        add_some(text, " \t\r", 3);
    if (one_in(200))
        add(text, '\0');
    add(text, '\n');
}

static void random_services(struct text *text)
{
    clear(text);
    for (size_t n = below(12); n; n--)
        service_line(text);
    if (one_in(4) && text->length)
        text->length--; /* no line break at the end */
}

/* What is a token's business: these differ where there is one. */
static int may_differ(const char *keyword, const char *ours, const char *theirs)
{
    static const char *const needed[] = { "password", "passfile", "sslmode", "sslrootcert", "gssencmode", "port" };
    for (size_t i = 0; i < LENGTH(needed); i++)
        if (!strcmp(keyword, needed[i]))
            /* A port that nobody names is written down. */
            return strcmp(keyword, "port") || ((!theirs || !*theirs) && ours && !strcmp(ours, "5432"));
    return (!ours || !*ours) && (!theirs || !*theirs);
}

static int same(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

static void compare_services(long count)
{
    static const char *const conninfos[] = { "service=mine", "service=mine user=x", "postgresql:///?service=mine",
                                             "service=mine host=localhost", "service=mine port=7 dbname=''" };
    static struct text text;
    long read = 0, refused = 0;
    for (turn = 0; turn < count; turn++) {
        const char *conninfo = PICK(conninfos);
        char *connstring, *errmsg;
        random_services(&text);
        write_file("PGSERVICEFILE", &text, 0600);
        add(&text, '\0'); /* to be shown */
        pgaad_status status = pgaad_client_connstring(client, conninfo, &connstring, &errmsg);
        PGconn *theirs = read_by_libpq(conninfo);
        if (is_read(theirs)) {
            PQconninfoOption *all = options_of(theirs);
            const char *host = NULL, *user = NULL;
            for (PQconninfoOption *option = all; option->keyword; option++) {
                host = !strcmp(option->keyword, "host") || !strcmp(option->keyword, "hostaddr")
                    ? (option->val && *option->val ? option->val : host) : host;
                user = !strcmp(option->keyword, "user") ? option->val : user;
            }
            /* Of nobody's host, and of no user, we say so. */
            if (status != PGAAD_OK && status != PGAAD_CONFIG)
                differ(text.bytes, "%s: %s: %s", conninfo, pgaad_status_name(status), errmsg);
            if (status == PGAAD_CONFIG && host && *host && !strstr(errmsg, "PGUSER"))
                differ(text.bytes, "%s: libpq reads it, pgaad says: %s", conninfo, errmsg);
            if (status == PGAAD_OK) {
                PGconn *ours = read_by_libpq(connstring);
                if (!is_read(ours))
                    differ(text.bytes, "%s: libpq doesn't read ours: %s", conninfo, message(ours));
                PQconninfoOption *our_options = options_of(ours);
                read++;
                for (size_t i = 0; all[i].keyword; i++)
                    if (!same(all[i].val, our_options[i].val)
                        && !may_differ(all[i].keyword, our_options[i].val, all[i].val)) {
                        show("libpq's", all[i].val);
                        show("pgaad's", our_options[i].val);
                        differ(text.bytes, "%s: %s is different", conninfo, all[i].keyword);
                    }
                free_options(our_options);
                finish(ours);
            }
            free_options(all);
        } else {
            refused++;
            if (status != PGAAD_CONFIG)
                differ(text.bytes, "%s: pgaad reads it (%s), libpq says: %s", conninfo, pgaad_status_name(status),
                       message(theirs));
        }
        finish(theirs);
        pgaad_free(connstring);
        pgaad_free(errmsg);
    }
    printf("read=%ld refused=%ld\n", read, refused);
}

static void passfile_field(struct text *text, const char *right, const char *wrong)
{
    if (one_in(3))
        add(text, '*');
    else if (one_in(12))
        add_all(text, wrong);
    else
        for (const char *c = right; *c; c++) {
            if (one_in(6) || ((*c == ':' || *c == '\\') && !one_in(9)))
                add(text, '\\');
            add(text, *c);
        }
    if (!one_in(40))
        add(text, ':');
}

static void compare_passfiles(long count)
{
    static const char *const hosts[] = { "localhost", "127.0.0.1", "LocalHost", "::1" };
    static const char *const users[] = { "a", "b:c", "d\\", "e f" };
    static const char *const names[] = { "db", "x:y", "" };
    static const char *const ports[] = { "5432", "7", "" };
    static struct text text, conninfo;
    long with = 0, without = 0;
    for (turn = 0; turn < count; turn++) {
        const char *host = PICK(hosts), *user = PICK(users), *name = PICK(names), *port = PICK(ports);
        const char *const keywords[] = { "host", "user", "dbname", "port" }, *const values[] = { host, user, name, port };
        char *connstring, *errmsg;
        clear(&conninfo);
        for (size_t i = 0; i < LENGTH(keywords); i++) {
            add_all(&conninfo, keywords[i]);
            add_all(&conninfo, "='");
            for (const char *c = values[i]; *c; c++) {
                if (*c == '\\')
                    add(&conninfo, '\\');
                add(&conninfo, *c);
            }
            add_all(&conninfo, "' ");
        }
        clear(&text);
        for (size_t n = below(6); n; n--) {
            if (one_in(8))
                add(&text, '#');
            if (one_in(20))
                add_noise(&text, 10);
            passfile_field(&text, host, "elsewhere");
            passfile_field(&text, *port ? port : "5432", "1");
            passfile_field(&text, *name ? name : user, "other");
            passfile_field(&text, user, "other");
            if (!one_in(6))
                add_noise(&text, 6);
            add_all(&text, one_in(6) ? "\r\n" : "\n");
        }
        if (one_in(4) && text.length)
            text.length--;
        write_file("PGPASSFILE", &text, one_in(8) ? 0640 : 0600);
        add(&text, '\0'); /* to be shown */
        pgaad_status status = pgaad_client_connstring(client, conninfo.bytes, &connstring, &errmsg);
        PGconn *theirs = read_by_libpq(conninfo.bytes);
        if (!is_read(theirs) || status != PGAAD_OK)
            differ(text.bytes, "%s: %s, %s", conninfo.bytes, errmsg ? errmsg : "", message(theirs));
        int has_password = password(theirs) && *password(theirs), has_token = strstr(connstring, "password='eyJ") != NULL;
        if (has_password == has_token) {
            show("libpq's", password(theirs));
            differ(text.bytes, "%s: a token: %d", conninfo.bytes, has_token);
        }
        with += has_password;
        without += !has_password;
        finish(theirs);
        pgaad_free(connstring);
        pgaad_free(errmsg);
    }
    printf("with=%ld without=%ld\n", with, without);
}

int main(int argc, char **argv)
{
    char *errmsg;
    if (argc != 4)
        return 2;
    alarm(280); /* what hangs is to fail */
    state = seed = strtoull(argv[2], NULL, 10);
    int services = !strcmp(argv[1], "services");
    open_libpq();
    if (pgaad_client_new(services ? "auth=client_secret" : "", &client, &errmsg))
        differ("", "no client: %s", errmsg);
    if (services)
        compare_services(atol(argv[3]));
    else
        compare_passfiles(atol(argv[3]));
    pgaad_client_free(client);
    return 0;
}

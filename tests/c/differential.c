/* Reads random connection strings with pgaad and with libpq, which must agree: on which can be read, and on what is in
 * them. Arguments: a seed, and how many strings. Entra is off (PGAAD_AUTH=off). Says what is not so. */
#include <libpq-fe.h>
#include <pgaad.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state;

static unsigned below(unsigned limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned) (state >> 33) % limit;
}

static char text[4096];

static void add(const char *part)
{
    strncat(text, part, sizeof text - strlen(text) - 1);
}

#define ONE_OF(...) one_of((const char *const[]){__VA_ARGS__, NULL})

static void one_of(const char *const *parts)
{
    unsigned count = 0;
    while (parts[count])
        count++;
    add(parts[below(count)]);
}

static void keyword(void)
{
    ONE_OF("host", "hostaddr", "port", "user", "dbname", "password", "sslmode", "application_name", "options",
           "connect_timeout", "sslrootcert", "passfile", "keepalives", "client_encoding", "target_session_attrs",
           "gssencmode", "channel_binding", "krbsrvname", "Host", "hosts", "ssl", "", "requiressl");
}

/* One byte, more or less likely to matter. */
static void noise(const char *letters)
{
    char one[2] = {letters[below((unsigned) strlen(letters))], '\0'};
    add(one);
}

static void value(void)
{
    switch (below(6)) {
    case 0:
        ONE_OF("a", "localhost", "5432", "/tmp", "::1", "x=y", "require", "", "''", "a b", "@x", "postgres://h/d");
        break;
    case 1:
        add("'");
        for (unsigned i = below(6); i; i--)
            noise("ab '\\\n\t=x\xc3\xbc");
        add(below(9) ? "'" : "");
        break;
    default:
        for (unsigned i = below(8); i; i--)
            noise("abcxyz019.-_/\\\\'=\xff\x01%");
    }
}

static void key_value(void)
{
    for (unsigned i = below(5); i; i--) {
        ONE_OF("", " ", "\t", "\n ", "  ");
        keyword();
        ONE_OF("=", "=", "=", "=", " =", "= ", " = ", "", "==");
        value();
        ONE_OF(" ", " ", " ", "\t", "\n", "\f", "\v", "");
    }
}

static void uri_part(void)
{
    for (unsigned i = below(6); i; i--) {
        noise("abcxyz019.-_~+ ");
        if (!below(4))
            ONE_OF("%20", "%2F", "%c3%bc", "%00", "%4", "%zz", "%%", "%40", ":", "@", "/", "?", "[", "]", ",", "&", "=", "#");
    }
}

static void uri_host(void)
{
    if (below(3))
        uri_part();
    else
        ONE_OF("[::1]", "[::1", "[]", "[::1]x", "127.0.0.1", "localhost", "%2Ftmp", "");
    if (!below(3)) {
        add(":");
        ONE_OF("5432", "", "x", "1,2", "%31");
    }
}

static void uri(void)
{
    ONE_OF("postgresql://", "postgres://", "postgresql:/", "Postgres://", "postgresql:///", "postgresql://");
    if (!below(2)) {
        uri_part();
        if (below(2)) {
            add(":");
            uri_part();
        }
        add("@");
    }
    uri_host();
    for (unsigned i = below(3); i; i--) {
        add(",");
        uri_host();
    }
    if (below(3)) {
        add("/");
        uri_part();
    }
    for (unsigned i = below(4); i; i--) {
        ONE_OF("?", "?", "&", "&");
        if (below(6))
            keyword();
        else
            ONE_OF("ssl", "h%6fst", "sslmode", "%", "user%20");
        ONE_OF("=", "=", "=", "", "%3d");
        if (!below(8))
            add("true");
        else
            uri_part();
    }
}

static int broken;

static void complain(const char *what, const char *more)
{
    printf("%s: <%s> %s\n", what, text, more ? more : "");
    broken = 1;
}

/* The same options with the same values. */
static int equal(const PQconninfoOption *one, const PQconninfoOption *other)
{
    for (; one->keyword && other->keyword; one++, other++) {
        if (strcmp(one->keyword, other->keyword) || !one->val != !other->val)
            return 0;
        if (one->val && strcmp(one->val, other->val))
            return 0;
    }
    return !one->keyword && !other->keyword;
}

/* libpq says so only of what it could read otherwise. */
static int is_unknown_option(const char *message)
{
    return strstr(message, "invalid connection option") || strstr(message, "invalid URI query parameter");
}

static int compare(void)
{
    char *theirs = NULL, *ours, *errmsg, *again = NULL;
    PQconninfoOption *expected = PQconninfoParse(text, &theirs);
    pgaad_status status = pgaad_connstring(text, &ours, &errmsg);
    int read = expected != NULL;
    if (expected && status != PGAAD_OK) {
        complain("libpq reads it, pgaad does not", errmsg);
    } else if (expected) {
        PQconninfoOption *got = PQconninfoParse(ours, &again);
        if (!got || !equal(expected, got))
            complain("not the same", ours);
        PQconninfoFree(got);
    } else if (status == PGAAD_OK && !is_unknown_option(theirs)) {
        complain("pgaad reads it, libpq does not", theirs);
    } else if (status == PGAAD_OK) {
        PQconninfoOption *got = PQconninfoParse(ours, &again);
        if (got)
            complain("an unknown option got lost", ours);
        PQconninfoFree(got);
    } else if (status != PGAAD_CONFIG) {
        complain("a strange status", errmsg);
    }
    PQconninfoFree(expected);
    PQfreemem(theirs);
    PQfreemem(again);
    pgaad_free(ours);
    pgaad_free(errmsg);
    return read;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    state = strtoull(argv[1], NULL, 10) * 2 + 1; /* never 0, which would stay 0 */
    long readable = 0, count = atol(argv[2]);
    for (long i = 0; i < count && !broken; i++) {
        text[0] = '\0';
        if (below(2))
            key_value();
        else
            uri();
        readable += compare();
    }
    /* Strings of which all or none can be read would show little. */
    if (readable < count / 10 || readable > count * 9 / 10) {
        printf("%ld of %ld can be read\n", readable, count);
        broken = 1;
    }
    puts("done");
    return broken;
}

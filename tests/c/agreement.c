/* Compares pgaad with the libpq of this machine on random input.
 *
 *   agreement parse SEED COUNT                how conninfos are read (through a client that is off)
 *   agreement token SEED COUNT ROOTS BUNDLE   what a connstring with a token holds; ROOTS are the caller's own
 *   agreement arrays SEED COUNT               what keyword and value arrays come to mean
 *
 * Prints counts, or the first difference with its seed. */
#define _GNU_SOURCE
#include <ctype.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <pgaad.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "random.h"

static pgaad_client *client;

/* Every keyword that this libpq knows. */
static const char *known[128];
static size_t known_count;

static void learn(void)
{
    PQconninfoOption *all = PQconndefaults();
    for (PQconninfoOption *option = all; option->keyword; option++)
        known[known_count++] = strdup(option->keyword);
    PQconninfoFree(all);
}

static const char *keyword(void)
{
    static const char *const odd[] = { "bogus", "Host", "requiressl", "authtype", "user-name", "h\xc3\xb6st", "ssl", "1" };
    static const char *const usual[] = { "host", "port", "user", "password", "dbname", "hostaddr", "sslmode", "options" };
    return one_in(40) ? PICK(odd) : one_in(2) ? PICK(usual) : known[below(known_count)];
}

static void add_spaces(struct text *text, size_t most)
{
    for (size_t n = below(most + 1); n; n--)
        add(text, " \t\n\r\v\f"[below(6)]);
}

static void add_quoted(struct text *text)
{
    add(text, '\'');
    for (size_t n = below(20); n; n--) {
        char c = any_byte();
        if ((c == '\'' || c == '\\') && !one_in(30))
            add(text, '\\');
        add(text, c);
    }
    if (!one_in(60))
        add(text, '\'');
}

static void add_bare(struct text *text)
{
    for (size_t n = below(12); n; n--) {
        char c = any_byte();
        if (isspace((unsigned char) c))
            add(text, '\\');
        add(text, c);
    }
}

static void key_value(struct text *text)
{
    add_spaces(text, 2);
    for (size_t n = below(7); n; n--) {
        add_all(text, keyword());
        add_spaces(text, one_in(4) ? 2 : 0);
        if (!one_in(60))
            add(text, '=');
        add_spaces(text, one_in(4) ? 2 : 0);
        if (one_in(2))
            add_quoted(text);
        else
            add_bare(text);
        if (!one_in(10))
            add(text, ' ');
        add_spaces(text, 1);
    }
}

static void encode(struct text *text, unsigned char c)
{
    char digits[4];
    snprintf(digits, sizeof digits, one_in(2) ? "%%%02X" : "%%%02x", c);
    add_all(text, digits);
}

/* A part of a URI: mostly encoded as it should be. */
static void part(struct text *text, size_t most)
{
    for (size_t n = below(most + 1); n; n--) {
        char c = any_byte();
        if (isalnum((unsigned char) c) || strchr("-._~", c) || one_in(40))
            add(text, c);
        else
            encode(text, (unsigned char) c);
    }
    if (one_in(300))
        add_all(text, "%00");
    if (one_in(100))
        add_all(text, one_in(2) ? "%4" : "%zz");
}

static void parameters(struct text *text)
{
    add(text, '?');
    for (size_t n = below(4); n; n--) {
        for (const char *c = keyword(); *c; c++) {
            if (one_in(20))
                encode(text, (unsigned char) *c);
            else
                add(text, *c);
        }
        if (!one_in(60))
            add(text, '=');
        part(text, 8);
        if (n > 1 || one_in(10))
            add(text, '&');
    }
    if (one_in(20))
        add_all(text, one_in(2) ? "&ssl=true" : "&ssl=false");
}

static void uri(struct text *text)
{
    add_all(text, one_in(2) ? "postgresql://" : "postgres://");
    if (one_in(2)) {
        part(text, 8);
        if (one_in(2)) {
            add(text, ':');
            part(text, 8);
        }
        add(text, '@');
    }
    for (int more = 1; more; more = one_in(3)) {
        if (text->bytes[text->length - 1] != '/' && text->bytes[text->length - 1] != '@')
            add(text, ',');
        if (one_in(5)) {
            add(text, '[');
            add_all(text, one_in(5) ? "" : "::1");
            if (!one_in(30))
                add(text, ']');
        } else {
            part(text, 8);
        }
        if (one_in(2)) {
            add(text, ':');
            part(text, 4);
        }
    }
    if (one_in(2)) {
        add(text, '/');
        part(text, 8);
    }
    if (one_in(2))
        parameters(text);
}

static void mutate(struct text *text)
{
    for (size_t n = below(4); n && text->length > 0; n--) {
        size_t place = below(text->length);
        switch (below(4)) {
        case 0:
            text->bytes[place] = any_byte();
            break;
        case 1:
            memmove(text->bytes + place, text->bytes + place + 1, text->length - place);
            text->length--;
            break;
        case 2:
            text->bytes[text->length = place] = '\0';
            break;
        default:
            add(text, text->bytes[place]);
            break;
        }
    }
}

static const char *value_of(PQconninfoOption *list, const char *name)
{
    for (; list && list->keyword; list++)
        if (!strcmp(list->keyword, name))
            return list->val;
    return NULL;
}

static int same(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

static void compare_parsing(long count)
{
    static struct text text;
    long accepted = 0, refused = 0, unknown = 0;
    for (turn = 0; turn < count; turn++) {
        clear(&text);
        if (one_in(9))
            add_noise(&text, 40);
        else if (one_in(2))
            key_value(&text);
        else
            uri(&text);
        if (one_in(3))
            mutate(&text);

        char *complaint = NULL, *connstring, *errmsg;
        PQconninfoOption *theirs = PQconninfoParse(text.bytes, &complaint);
        pgaad_status status = pgaad_client_connstring(client, text.bytes, &connstring, &errmsg);
        PQconninfoOption *ours = status == PGAAD_OK ? PQconninfoParse(connstring, NULL) : NULL;
        int is_unknown = complaint && (!strncmp(complaint, "invalid connection option", 25)
                                       || !strncmp(complaint, "invalid URI query parameter", 27));
        if (status != PGAAD_OK && status != PGAAD_CONFIG)
            differ(text.bytes, "status %s: %s", pgaad_status_name(status), errmsg);
        if (theirs) {
            accepted++;
            if (status != PGAAD_OK)
                differ(text.bytes, "libpq accepts it, pgaad says: %s", errmsg);
            if (!ours)
                differ(text.bytes, "libpq cannot read what pgaad wrote: %s", connstring);
            for (PQconninfoOption *option = theirs; option->keyword; option++)
                if (!same(option->val, value_of(ours, option->keyword))) {
                    show("libpq's", option->val);
                    show("pgaad's", value_of(ours, option->keyword));
                    differ(text.bytes, "%s is different", option->keyword);
                }
        } else if (is_unknown) {
            /* Passed on for libpq to judge, or refused. */
            unknown++;
            if (ours)
                differ(text.bytes, "pgaad lost what libpq refuses: %s", complaint);
        } else {
            refused++;
            if (status == PGAAD_OK)
                differ(text.bytes, "pgaad accepts it, libpq says: %s", complaint);
        }
        PQconninfoFree(theirs);
        PQconninfoFree(ours);
        PQfreemem(complaint);
        pgaad_free(connstring);
        pgaad_free(errmsg);
    }
    printf("accepted=%ld refused=%ld unknown=%ld\n", accepted, refused, unknown);
}

/* The options of one conninfo; those that are not given are skipped. */
static struct option {
    const char *keyword;
    char value[128];
    int is_given;
} given[128];

static struct option *option_named(const char *name)
{
    for (size_t i = 0; i < known_count; i++)
        if (!strcmp(given[i].keyword, name))
            return &given[i];
    abort();
}

static const char *get(const char *name)
{
    struct option *option = option_named(name);
    return option->is_given ? option->value : NULL;
}

static void give(const char *name, const char *value)
{
    struct option *option = option_named(name);
    option->is_given = value != NULL;
    snprintf(option->value, sizeof option->value, "%s", value ? value : "");
}

static void write_given(struct text *text)
{
    int as_uri = one_in(2);
    clear(text);
    add_all(text, as_uri ? "postgresql:///?" : "");
    for (size_t i = 0; i < known_count; i++) {
        if (!given[i].is_given)
            continue;
        add_all(text, given[i].keyword);
        add_all(text, as_uri ? "=" : "='");
        for (const char *c = given[i].value; *c; c++) {
            if (as_uri && !isalnum((unsigned char) *c)) {
                encode(text, (unsigned char) *c);
                continue;
            }
            if (*c == '\'' || *c == '\\')
                add(text, '\\');
            add(text, *c);
        }
        add_all(text, as_uri ? "&" : "' ");
    }
}

static void give_at_random(const char *roots)
{
    static const char *const hosts[] = { "localhost", "127.0.0.1", "x.postgres.database.azure.com", "LOCALHOST.", "::1",
                                         "localhost,x.postgres.database.azure.com", "", NULL };
    static const char *const modes[] = { NULL, NULL, NULL, "allow", "prefer", "require", "verify-ca", "verify-full",
                                         "disable" };
    static const char *const gss[] = { NULL, NULL, NULL, "prefer", "disable", "require" };
    static const char *const binding[] = { NULL, NULL, NULL, "prefer", "disable", "require" };
    static const char *const numbers[] = { NULL, "1", "5432", "65535" };
    for (size_t i = 0; i < known_count; i++) {
        static struct text text;
        clear(&text);
        add_noise(&text, 12);
        give(known[i], one_in(6) && strncmp(known[i], "service", 7) ? text.bytes : NULL);
    }
    give("host", PICK(hosts));
    const char *host = get("host");
    give("hostaddr", host && strchr(host, ',') ? NULL : one_in(3) ? "127.0.0.1" : one_in(4) ? "" : NULL);
    give("port", PICK(numbers));
    give("connect_timeout", PICK(numbers));
    give("sslmode", PICK(modes));
    give("gssencmode", PICK(gss));
    give("channel_binding", PICK(binding));
    give("sslrootcert", one_in(4) ? roots : one_in(4) ? "" : one_in(4) ? "/nonexistent" : NULL);
    if (one_in(2) && !get("user"))
        give("user", "somebody");
}

static int is_set(const char *value)
{
    return value && *value;
}

static int is(const char *name, const char *value)
{
    const char *held = get(name);
    return held && !strcmp(held, value);
}

/* What an option must be in a connstring with a token. */
static const char *wanted(const char *name, const char *token, const char *roots, const char *bundle)
{
    const char *value = get(name);
    if (!strcmp(name, "password"))
        return token;
    if (!strcmp(name, "host") || !strcmp(name, "hostaddr"))
        return value ? value : "";
    if (!strcmp(name, "port"))
        return value ? value : "5432";
    if (!strcmp(name, "sslrootcert"))
        return is_set(value) ? value : bundle;
    if (!strcmp(name, "gssencmode"))
        return "disable";
    if (!strcmp(name, "sslmode"))
        return is("sslrootcert", roots) && (is("sslmode", "require") || is("sslmode", "verify-ca")) ? value : "verify-full";
    return value;
}

static void compare_tokens(long count, const char *roots, const char *bundle)
{
    static struct text text;
    long granted = 0, refused = 0;
    char *token, *connstring, *errmsg;
    if (pgaad_client_get_token(client, -1, &token, NULL, &errmsg))
        differ("", "no token: %s", errmsg);
    for (size_t i = 0; i < known_count; i++)
        given[i].keyword = known[i];
    for (turn = 0; turn < count; turn++) {
        give_at_random(roots);
        write_given(&text);
        pgaad_status status = pgaad_client_connstring(client, text.bytes, &connstring, &errmsg);
        pgaad_status expected = PGAAD_OK;
        if (!is_set(get("host")) && !is_set(get("hostaddr")))
            expected = PGAAD_CONFIG;
        else if (is("sslmode", "disable"))
            expected = PGAAD_INSECURE;
        /* Of two reasons to refuse it either may be named. */
        int misfit = is("gssencmode", "require") || is("channel_binding", "require") || !is_set(get("user"));
        if (misfit ? status == PGAAD_OK : status != expected)
            differ(text.bytes, "%s is not to be expected here: %s", pgaad_status_name(status), errmsg ? errmsg : "");
        if (status != PGAAD_OK && status != expected && status != PGAAD_CONFIG)
            differ(text.bytes, "%s is a strange status: %s", pgaad_status_name(status), errmsg);
        if (status == PGAAD_OK) {
            granted++;
            PQconninfoOption *ours = PQconninfoParse(connstring, NULL);
            if (!ours)
                differ(text.bytes, "libpq cannot read what pgaad wrote: %s", connstring);
            for (PQconninfoOption *option = ours; option->keyword; option++)
                if (!same(option->val, wanted(option->keyword, token, roots, bundle))) {
                    show("wanted", wanted(option->keyword, token, roots, bundle));
                    show("got", option->val);
                    differ(text.bytes, "%s is different", option->keyword);
                }
            PQconninfoFree(ours);
        } else {
            refused++;
        }
        pgaad_free(connstring);
        pgaad_free(errmsg);
    }
    pgaad_free(token);
    printf("granted=%ld refused=%ld\n", granted, refused);
}

/* One entry of the arrays. Nobody listens at these hosts and ports. */
static void entry(const char **name, const char **value)
{
    static const char *const hosts[] = { "localhost", "127.0.0.1", "/nonexistent", "localhost,127.0.0.1", "", NULL };
    static const char *const ports[] = { "1", "2", "1,2", "x", "", NULL };
    static const char *const modes[] = { "prefer", "require", "verify-full", "sometimes", "", NULL };
    static const char *const names[] = { "a", "b'\\", "postgresql://", "", NULL };
    static const char *const conninfos[] = { "host=localhost user=c", "host=127.0.0.1 dbname=d port=2 user=''", "user=",
                                             "postgresql://e:f@localhost:1/g?application_name=h", "dbname='user=i'",
                                             "password='' options=x application_name=''", "bogus=1", "postgres://%zz",
                                             "postgresql:///j", "connect_timeout=3 connect_timeout=4 sslmode=prefer",
                                             "hostaddr=127.0.0.1", "hostaddr=''" };
    static const char *const numbers[] = { "3", "0", "", NULL };
    static const char *const others[] = { "application_name", "options", "user", "password", "fallback_application_name" };
    static const char *const peers[] = { "x", "", NULL };
    switch (below(9)) {
    case 0:
    case 1:
        *name = "host";
        *value = PICK(hosts);
        break;
    case 2:
        *name = "port";
        *value = PICK(ports);
        break;
    case 3:
        *name = "sslmode";
        *value = one_in(3) ? PICK(modes) : "prefer";
        break;
    case 4:
    case 5:
        *name = "dbname";
        *value = one_in(2) ? PICK(conninfos) : PICK(names);
        break;
    case 6:
        *name = one_in(10) ? "bogus" : "requirepeer";
        *value = PICK(peers);
        break;
    case 7:
        *name = "connect_timeout";
        *value = PICK(numbers);
        break;
    default:
        *name = PICK(others);
        *value = PICK(names);
        break;
    }
}

/* What is a token's business: these differ where there is one. */
static int may_differ(const char *keyword, const char *ours, const char *theirs)
{
    static const char *const needed[] = { "password", "passfile", "sslmode", "sslrootcert", "gssencmode" };
    for (size_t i = 0; i < LENGTH(needed); i++)
        if (!strcmp(keyword, needed[i]))
            return 1;
    /* An empty address or host keeps the environment's out. */
    return (!strcmp(keyword, "hostaddr") || !strcmp(keyword, "host")) && !is_set(ours) && !is_set(theirs);
}

static void compare_connections(const char *input, PGconn *ours, PGconn *theirs)
{
    if (strcmp(PQerrorMessage(ours), PQerrorMessage(theirs))) {
        show("libpq's", PQerrorMessage(theirs));
        show("pgaad's", PQerrorMessage(ours));
        differ(input, "the messages are different");
    }
    if (!same(PQhost(ours), PQhost(theirs)) || !same(PQport(ours), PQport(theirs)) || !same(PQuser(ours), PQuser(theirs))
        || !same(PQdb(ours), PQdb(theirs)))
        differ(input, "where it leads is different");
    PQconninfoOption *a = PQconninfo(ours), *b = PQconninfo(theirs);
    for (PQconninfoOption *option = b; option && option->keyword; option++) {
        const char *value = value_of(a, option->keyword);
        if (!same(value, option->val) && !may_differ(option->keyword, value, option->val)) {
            show("libpq's", option->val);
            show("pgaad's", value);
            differ(input, "%s is different", option->keyword);
        }
    }
    PQconninfoFree(a);
    PQconninfoFree(b);
}

static void compare_arrays(long count)
{
    static struct text text;
    long compared = 0, with_token = 0, refused = 0;
    for (turn = 0; turn < count; turn++) {
        const char *keywords[12] = { NULL }, *values[12] = { NULL };
        int expand = !one_in(3);
        size_t n = below(LENGTH(keywords));
        clear(&text);
        add_all(&text, expand ? "expanded" : "as they are");
        for (size_t i = 0; i < n; i++) {
            entry(&keywords[i], &values[i]);
            add_all(&text, "; ");
            add_all(&text, keywords[i]);
            add_all(&text, "=");
            add_all(&text, values[i] ? values[i] : "(NULL)");
        }
        PGconn *ours = pgaad_client_connectdb_params(client, keywords, values, expand);
        /* What we refuse is another test's. */
        if (pgaad_connection_status(ours) == PGAAD_OK) {
            PGconn *theirs = PQconnectdbParams(keywords, values, expand);
            compared++;
            with_token += PQpass(ours) && !strncmp(PQpass(ours), "eyJ", 3);
            compare_connections(text.bytes, ours, theirs);
            PQfinish(theirs);
        } else {
            refused++;
        }
        PQfinish(ours);
    }
    printf("compared=%ld with_token=%ld refused=%ld\n", compared, with_token, refused);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    char *errmsg;
    alarm(280); /* what hangs is to fail */
    state = seed = strtoull(argv[2], NULL, 10);
    long count = atol(argv[3]);
    int parsing = !strcmp(argv[1], "parse");
    if (pgaad_client_new(parsing ? "auth=off" : "auth=client_secret", &client, &errmsg))
        differ("", "no client: %s", errmsg);
    learn();
    if (parsing)
        compare_parsing(count);
    else if (!strcmp(argv[1], "token") && argc > 5)
        compare_tokens(count, argv[4], argv[5]);
    else if (!strcmp(argv[1], "arrays"))
        compare_arrays(count);
    else
        return 2;
    pgaad_client_free(client);
    return 0;
}

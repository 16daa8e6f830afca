/* Random text from a seed, and what to say of a difference that it brought to light. */
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH(array) (sizeof(array) / sizeof *(array))

static uint64_t seed, state;
static long turn;

/* splitmix64 */
static uint64_t next(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t below(size_t n)
{
    return next() % n;
}

static int one_in(size_t n)
{
    return !below(n);
}

#define PICK(array) ((array)[below(LENGTH(array))])

/* Text under construction, longer than anything written here. */
struct text {
    char bytes[1 << 14];
    size_t length;
};

static void clear(struct text *text)
{
    text->length = 0;
    text->bytes[0] = '\0';
}

static void add(struct text *text, char c)
{
    if (text->length + 1 < sizeof text->bytes)
        text->bytes[text->length++] = c;
    text->bytes[text->length] = '\0';
}

static void add_all(struct text *text, const char *more)
{
    while (*more)
        add(text, *more++);
}

static void show(const char *what, const char *text)
{
    printf("  %s: ", what);
    for (const unsigned char *c = (const unsigned char *) text; c && *c; c++)
        printf(isprint(*c) && *c != '\\' ? "%c" : "\\x%02x", *c);
    printf("%s\n", text ? "" : "(none)");
}

static void differ(const char *input, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));

static void differ(const char *input, const char *format, ...)
{
    va_list values;
    printf("difference at seed %" PRIu64 ", turn %ld\n", seed, turn);
    show("input", input);
    va_start(values, format);
    vprintf(format, values);
    va_end(values);
    printf("\n");
    exit(1);
}

static char any_byte(void)
{
    static const char special[] = "'\\=%@:/?&,[]#+ \t\n\r\v\f\"$;~.-_\x01\x7f\xc3\xa0\xff\x80" "019azAZ";
    return one_in(3) ? (char) (1 + below(255)) : one_in(2) ? special[below(sizeof special - 1)] : (char) ('a' + below(26));
}

static void add_noise(struct text *text, size_t most)
{
    for (size_t n = below(most + 1); n; n--)
        add(text, any_byte());
}

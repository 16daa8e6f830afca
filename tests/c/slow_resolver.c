/* Stands before the C library's getaddrinfo, so that no test asks a name server and a look-up takes as long as a test
 * wants. localhost, addresses and *.pgaad.test are known (the last as 127.0.0.1), other names are not.
 *
 *   RESOLVER_LOG=FILE      gets a line "enter NAME" and "leave NAME" for each look-up, "forked" from each child
 *   RESOLVER_HOLD=NAME     the look-up of this name does not end, except in children ...
 *   RESOLVER_UNTIL=FIFO    ... until somebody opens this FIFO for writing; "fork": until a moment after a fork began
 *   RESOLVER_FAILS=N       the first N look-ups fail for now (EAI_AGAIN)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

typedef int look_up(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static int fork_begins[2];
static pid_t loaded_in;
static atomic_int look_ups;

static void note(const char *what, const char *name)
{
    char line[300];
    const char *path = getenv("RESOLVER_LOG");
    if (!path)
        return;
    int length = snprintf(line, sizeof line, "%s%s%s\n", what, *name ? " " : "", name);
    int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || write(file, line, length) != length)
        abort();
    close(file);
}

static void before_fork(void)
{
    if (write(fork_begins[1], "f", 1) != 1)
        abort();
}

static void in_child(void)
{
    note("forked", "");
}

static void begin(void)
{
    loaded_in = getpid();
    /* Handlers before a fork run in reverse order of registration. This one is registered at the first look-up, after
     * those of the library, so it runs before them. */
    if (pipe2(fork_begins, O_CLOEXEC) || pthread_atfork(before_fork, NULL, in_child))
        abort();
}

static void hold(const char *until)
{
    char byte;
    if (until && !strcmp(until, "fork")) {
        if (read(fork_begins[0], &byte, 1) != 1)
            abort();
        usleep(100 * 1000); /* a fork that does not wait has happened by then */
    } else if (until) {
        close(open(until, O_RDONLY | O_CLOEXEC));
    } else {
        for (;;)
            pause();
    }
}

static int is_address(const char *name)
{
    char address[16];
    return inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
}

static int is_ours(const char *name)
{
    const char *end = ".pgaad.test";
    size_t a = strlen(name), b = strlen(end);
    return a > b && !strcasecmp(name + a - b, end);
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    look_up *real = (look_up *) dlsym(RTLD_NEXT, "getaddrinfo");
    const char *held = getenv("RESOLVER_HOLD"), *fails = getenv("RESOLVER_FAILS");

    if (!name || is_address(name))
        return real(name, service, hints, found);
    pthread_once(&once, begin);
    note("enter", name);
    if (held && !strcmp(name, held) && getpid() == loaded_in)
        hold(getenv("RESOLVER_UNTIL"));
    int status = EAI_NONAME;
    if (fails && atomic_fetch_add(&look_ups, 1) < atoi(fails))
        status = EAI_AGAIN;
    else if (is_ours(name))
        status = real("127.0.0.1", service, hints, found);
    else if (!strcasecmp(name, "localhost") || !strcasecmp(name, "localhost."))
        status = real(name, service, hints, found);
    note("leave", name);
    return status;
}

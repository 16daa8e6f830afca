/* Stands before the C library's clock_gettime, so that a test need not wait for time to pass. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

static int (*real)(clockid_t, struct timespec *);
static atomic_llong asleep, wall;

__attribute__((constructor)) static void find(void)
{
    real = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
    if (!real)
        abort();
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    if (!real)
        find();
    int status = real(clock, time);
    /* A machine that was suspended: CLOCK_MONOTONIC stood still meanwhile, and that is what threads wait by. */
    int is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    if (clock == CLOCK_BOOTTIME || is_wall)
        time->tv_sec += asleep;
    if (is_wall)
        time->tv_sec += wall;
    return status;
}

void suspend_machine(long long seconds)
{
    asleep += seconds;
}

void set_wall_clock(long long seconds)
{
    wall += seconds;
}

/* The program of no_libpq.c, linked with libpq. */
#include <libpq-fe.h>

#define WITH_LIBPQ
#include "no_libpq.c"

/* Or the linker may leave libpq out. */
int (*const uses_libpq)(void) = PQlibVersion;

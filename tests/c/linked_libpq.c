/* The program of find_libpq.c, linked with libpq. */
#include <libpq-fe.h>

#include "find_libpq.c"

/* Or the linker may leave libpq out. */
int (*const uses_libpq)(void) = PQlibVersion;

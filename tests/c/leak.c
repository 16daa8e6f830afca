/* Leaks: tests/suite/valgrind.rs looks whether valgrind would say so. */
#include <stdlib.h>

int main(void)
{
    char *volatile lost = malloc(10);
    lost = NULL;
    return lost != NULL;
}

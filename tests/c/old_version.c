/* A libpgaad of long ago: it has a version, and nothing else. */

int pgaad_version_number(void)
{
    return 1;
}

const char *pgaad_version(void)
{
    return "0.0.1";
}

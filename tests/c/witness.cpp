/* Signs in with libpqxx and prints who it is. */
#include <cstdio>
#include <pqxx/pqxx>

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    try {
        pqxx::connection connection(argv[1]);
        pqxx::work work(connection);
        pqxx::result rows = work.exec("select current_user || ' ' || ssl::text from pg_stat_ssl where pid = pg_backend_pid()");
        std::puts(rows[0][0].c_str());
    } catch (const std::exception &error) {
        std::fputs(error.what(), stderr);
        return 1;
    }
}

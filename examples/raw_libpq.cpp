/* Signs in from C++ with libpq itself, and says as whom and over which TLS.
 *
 *   c++ -std=c++17 raw_libpq.cpp $(pkg-config --cflags --libs pgaad libpq) -o raw_libpq
 */
#include <iostream>
#include <memory>
#include <libpq-fe.h>
#include <pgaad.hpp>

int main(int argc, char **argv)
try {
    // Finished at its end. It throws where there is no token for it.
    const pgaad::connection conn = pgaad::connectdb(argc > 1 ? argv[1] : "");
    // What libpq or the server says stands on the connection, as ever.
    if (PQstatus(conn.get()) != CONNECTION_OK) {
        std::cerr << PQerrorMessage(conn.get());
        return 1;
    }
    const std::unique_ptr<PGresult, void (*)(PGresult *)> result(
        PQexec(conn.get(), "SELECT current_user, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"), PQclear);
    const char *user = PQgetvalue(result.get(), 0, 0), *version = PQgetvalue(result.get(), 0, 1);
    std::cout << "signed in as " << user << " over " << version << '\n';
    return 0;
} catch (const pgaad::temporary_error &error) {
    std::cerr << error.what() << "\nTrying again later may help.\n";
    return 1;
} catch (const pgaad::error &error) {
    std::cerr << error.name() << ": " << error.what() << '\n';
    return 1;
}

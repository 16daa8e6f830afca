/* Signs in with libpqxx, and says as whom and over which TLS: pgaad writes a connection string that holds the token.
 *
 *   c++ -std=c++17 libpqxx.cpp $(pkg-config --cflags --libs pgaad libpqxx) -o libpqxx
 *
 * The token is for connecting: write a new string for each connection. (libpqxx before 7 connects again by itself when
 * it has lost a connection, with the old string; the server takes that as long as the token lives.)
 */
#include <iostream>
#include <pqxx/pqxx>
#include <pgaad.hpp>

int main(int argc, char **argv)
try {
    const pgaad::client client;
    pqxx::connection connection(client.connstring(argc > 1 ? argv[1] : "").c_str());
    pqxx::work work(connection);
    const pqxx::result rows = work.exec("SELECT current_user, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
    std::cout << "signed in as " << rows[0][0].c_str() << " over " << rows[0][1].c_str() << '\n';
    return 0;
} catch (const pgaad::error &error) {
    // There is no token, or it may not go there.
    std::cerr << error.name() << ": " << error.what() << '\n';
    return 1;
} catch (const std::exception &error) {
    // libpqxx, or the server.
    std::cerr << error.what() << '\n';
    return 1;
}

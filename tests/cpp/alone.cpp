/* Compiled by tests/suite/cpp.rs without libpq and without its headers: what needs neither. With CONNECTS, what becomes of
 * a connect function where there is no libpq. */
#include <pgaad.hpp>

#include <cstdio>
#include <cstdlib>

#ifdef LIBPQ_FE_H
#error "pgaad.hpp includes libpq-fe.h"
#endif

#ifdef CONNECTS
extern "C" void PQfinish(struct pg_conn *)
{
}

extern "C" char *PQerrorMessage(const struct pg_conn *)
{
    std::abort();
}
#endif

int main(int argc, char **argv)
{
    const pgaad::client client(argc > 1 ? argv[1] : "");
    const pgaad::token token = client.get_token(std::chrono::seconds(30));
    const pgaad::secret connstring = client.connstring("host=localhost user=somebody");
    const bool holds = connstring.view().find(token.value.view()) != std::string_view::npos;
    client.invalidate();
    std::printf("%s %d\n", holds ? "a connstring with the token" : "no token in it", !client.stats().empty());
    try {
#ifdef CONNECTS
        std::printf("%d\n", pgaad::connectdb("host=localhost user=somebody") ? 1 : 0);
#else
        std::printf("%s\n", pgaad::libpq().path.c_str());
#endif
    } catch (const pgaad::error &error) {
        std::printf("%s %s\n", error.name(), error.what());
    }
    return 0;
}

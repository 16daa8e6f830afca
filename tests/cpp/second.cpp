/* A second unit of cover.cpp's: pgaad.hpp twice, here after libpq-fe.h. */
#include <libpq-fe.h>
#include <pgaad.hpp>
#include <pgaad.hpp>

#include "second.hpp"

pgaad::connection connected_elsewhere(const pgaad::client &client)
{
    pgaad::connection conn = client.connectdb({});
    PGconn *raw = conn.release();
    return pgaad::connection(raw);
}

pgaad_status caught_elsewhere(const std::function<void()> &call)
{
    try {
        call();
    } catch (const pgaad::error &error) {
        return error.status();
    }
    return PGAAD_OK;
}

/* What cover.cpp uses of second.cpp. */
#include <functional>
#include <pgaad.hpp>

pgaad::connection connected_elsewhere(const pgaad::client &client);
pgaad_status caught_elsewhere(const std::function<void()> &call);

/* Must not compile: the strings that are made of these paths are gone when libpq reads them. */
#include <filesystem>
#include <map>

#include <pgaad.hpp>

void connect(const std::map<std::string, std::filesystem::path> &files)
{
    pgaad::client().connectdb_params(files);
}

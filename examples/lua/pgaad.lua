--- Signs LuaSQL in to Azure Database for PostgreSQL with Microsoft Entra ID, by libpgaad.
--
--     local entra = assert(require("pgaad").client())
--     local connection = env:connect(assert(entra:connstring("host=myserver.postgres.database.azure.com")))
--
-- Needs LuaJIT, and libpgaad.so.0, which PGAAD_LIBRARY may name by its path; without it, or with one that is too old,
-- `require` fails. What else goes wrong returns nil, a message, and the status's name, such as "PGAAD_DENIED".

local ffi = require("ffi")

local NEEDED = { 0, 1, 0 } -- the first version that has all that is used here

ffi.cdef [[
    typedef struct pgaad_client pgaad_client;
    const char *pgaad_version(void);
    int pgaad_version_number(void);
    const char *pgaad_status_name(int32_t status);
    void pgaad_free(void *string);
    int32_t pgaad_client_new(const char *settings, pgaad_client **client, char **errmsg);
    void pgaad_client_free(pgaad_client *client);
    int32_t pgaad_client_get_token(pgaad_client *client, int timeout_ms, char **token, int64_t *expires_on,
                                   char **errmsg);
    int32_t pgaad_client_get_user(pgaad_client *client, char **user, char **errmsg);
    int32_t pgaad_client_connstring(pgaad_client *client, const char *conninfo, char **connstring, char **errmsg);
]]

local function unusable(...)
    local why = string.format(...)
    error("pgaad: " .. why .. ". Install pgaad, or set PGAAD_LIBRARY to the path of libpgaad.so.0.", 0)
end

local function load()
    local name = os.getenv("PGAAD_LIBRARY")
    if not name or name == "" then
        name = "libpgaad.so.0"
    end
    local found, library = pcall(ffi.load, name)
    if not found then
        unusable("cannot load %s (%s)", name, library)
    end
    local known, number = pcall(function() return library.pgaad_version_number() end)
    if not known then
        unusable("%s is another library", name)
    end
    if number < NEEDED[1] * 10000 + NEEDED[2] * 100 + NEEDED[3] then
        local version = ffi.string(library.pgaad_version())
        unusable("%s is version %s, and %s is needed", name, version, table.concat(NEEDED, "."))
    end
    return library
end

local library = load()

--- Copies a string of pgaad's, and gives it back.
local function take(string)
    if string == nil then
        return "pgaad: no memory"
    end
    local copy = ffi.string(string)
    library.pgaad_free(string)
    return copy
end

--- What a function puts out: call(output, errmsg).
local function ask(kind, call)
    local output, errmsg = ffi.new(kind), ffi.new("char *[1]")
    local status = call(output, errmsg)
    if status ~= 0 then
        return nil, take(errmsg[0]), ffi.string(library.pgaad_status_name(status))
    end
    return output[0]
end

local function ask_string(call)
    local string, message, status = ask("char *[1]", call)
    if not string then
        return nil, message, status
    end
    return take(string)
end

--- One identity with its settings and its tokens.
local Client = {}
Client.__index = Client

--- A token, for up to so many milliseconds (none, or negative: the setting timeout_ms).
function Client:token(timeout)
    return ask_string(function(token, errmsg)
        return library.pgaad_client_get_token(self.handle, timeout or -1, token, nil, errmsg)
    end)
end

--- The database user that the identity is, as its token says.
function Client:user()
    return ask_string(function(user, errmsg)
        return library.pgaad_client_get_user(self.handle, user, errmsg)
    end)
end

--- A connection string for libpq, with a token where Entra is on for this server: a secret. `conninfo` is
-- "key=value ..." or a URI; the PG* variables stand in for what it leaves out.
function Client:connstring(conninfo)
    return ask_string(function(connstring, errmsg)
        return library.pgaad_client_connstring(self.handle, conninfo, connstring, errmsg)
    end)
end

local pgaad = {}

--- Makes a client. `settings` is "key=value ..."; what it leaves out comes from the environment.
function pgaad.client(settings)
    local handle, message, status = ask("pgaad_client *[1]", function(client, errmsg)
        return library.pgaad_client_new(settings, client, errmsg)
    end)
    if not handle then
        return nil, message, status
    end
    return setmetatable({ handle = ffi.gc(handle, library.pgaad_client_free) }, Client)
end

return pgaad

-- Commands for tests/suite/scripts.rs, one a line, words separated by tabs; the answer ends with a line of a dot.

io.stdout:setvbuf("line")

local function say(command, status, rest)
    print((("%s status=%s %s"):format(command, status, rest):gsub("%s+", " ")))
end

package.path = arg[0]:gsub("[^/]*$", "") .. "../../examples/lua/?.lua;" .. package.path
local loaded, pgaad = pcall(require, "pgaad")
if not loaded then
    say("load", type(pgaad), "errmsg=" .. pgaad)
    os.exit()
end
local postgres = require("luasql.postgres").postgres()

local client

--- A table with all that is in it.
local function dump(value)
    if type(value) ~= "table" then
        return tostring(value)
    end
    local parts = {}
    for name, inner in pairs(value) do
        parts[#parts + 1] = tostring(name) .. "=" .. dump(inner)
    end
    return "{" .. table.concat(parts, ",") .. "}"
end

local failure

local commands = {
    new = function(settings)
        local made, message, status = pgaad.client(settings)
        client = made or client
        return made and "made", message, status
    end,
    token = function(timeout)
        return client:token(tonumber(timeout))
    end,
    user = function()
        return client:user()
    end,
    connstring = function(conninfo)
        return client:connstring(conninfo)
    end,
    -- All that a program might log.
    inspect = function(conninfo)
        local connstring, message = client:connstring(conninfo)
        local refused = connstring and { postgres:connect(connstring) } or message
        local _, trace = xpcall(error, debug.traceback, failure)
        return dump({ client, failure, refused, trace })
    end,
    connect = function(conninfo)
        local connstring, message, status = client:connstring(conninfo)
        if not connstring then
            return nil, message, status
        end
        local connection, why = postgres:connect(connstring)
        if not connection then
            return nil, why, "luasql"
        end
        local who = connection:execute("select current_user"):fetch()
        connection:close()
        return who
    end,
}

for line in io.lines() do
    local words = {}
    for word in (line .. "\t"):gmatch("(.-)\t") do
        words[#words + 1] = word
    end
    local value, message, status = commands[words[1]](unpack(words, 2))
    if value then
        say(words[1], "PGAAD_OK", "value=" .. value)
    else
        failure = message
        say(words[1], status, "class=nil errmsg=" .. message)
    end
    print(".")
end

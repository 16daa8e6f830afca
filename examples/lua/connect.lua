-- Runs each line of SQL that it reads on a new connection of LuaSQL's, signed in with Microsoft Entra ID.
--
--     echo 'select current_user' | luajit connect.lua "host=myserver.postgres.database.azure.com user=app-one"

package.path = arg[0]:gsub("[^/]*$", "") .. "?.lua;" .. package.path
local pgaad = require("pgaad")
local postgres = require("luasql.postgres").postgres()

local entra = assert(pgaad.client())

--- Prints what a statement gives, or raises an error.
local function run(sql)
    local connection = assert(postgres:connect(assert(entra:connstring(arg[1]))))
    local cursor, why = connection:execute(sql)
    local row = cursor and cursor:fetch({})
    while row do
        print(table.concat(row, "\t"))
        row = cursor:fetch(row)
    end
    connection:close()
    assert(cursor, why)
end

for sql in io.lines() do
    local done, why = pcall(run, sql)
    if not done then
        io.stderr:write(why, "\n")
    end
end

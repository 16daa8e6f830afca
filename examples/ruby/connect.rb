# frozen_string_literal: true

# Runs each line of SQL that it reads on a new connection of ruby-pg's, signed in with Microsoft Entra ID.
#
#     echo 'select current_user' | ruby connect.rb "host=myserver.postgres.database.azure.com user=app-one"

require "pg"
require_relative "pgaad"

entra = Pgaad::Client.new
conninfo = ARGV.fetch(0, "")

$stdin.each_line do |sql|
  connection = PG.connect(entra.connstring(conninfo))
  connection.exec(sql).each_row { |row| puts row.join("\t") }
rescue Pgaad::Error, PG::Error => error
  warn error.message
ensure
  connection&.close
end

# frozen_string_literal: true

# Commands for tests/suite/scripts.rs, one a line, words separated by tabs; the answer ends with a line of a dot.

require "pg"

$stdout.sync = true

def say(command, status, rest)
  puts "#{command} status=#{status} #{rest}".gsub(/\s+/, " ")
end

begin
  require_relative "../../examples/ruby/pgaad"
rescue LoadError => error
  say("load", error.class, "errmsg=#{error.message}")
  exit
end

# The commands.
class Commands
  attr_writer :failure

  def new(settings)
    @client = Pgaad::Client.new(settings)
    "made"
  end

  def token(timeout = "-1")
    @client.token(timeout: timeout.to_i)
  end

  def user
    @client.user
  end

  def connstring(conninfo)
    @client.connstring(conninfo)
  end

  # All that a program might log.
  def inspect(conninfo)
    refused =
      begin
        PG.connect(@client.connstring(conninfo))
      rescue Pgaad::Error, PG::Error => error
        error
      end
    errors = [@failure, refused].compact
    [@client, *errors, *errors.map(&:full_message), *errors.map(&:backtrace)].map(&:inspect).join(" ")
  end

  def connect(conninfo)
    connection = PG.connect(@client.connstring(conninfo))
    connection.exec("select current_user").getvalue(0, 0)
  ensure
    connection&.close
  end

  # Many wait for a token; how many of them are done when other threads have had their turns?
  def hang(many)
    @hanging = Array.new(many.to_i) { Thread.new { @client.token } }
    20.times { Thread.new { sleep 0.001 }.join }
    @hanging.count { |thread| !thread.alive? }
  end

  def join
    @hanging.map(&:value).uniq.size
  end
end

commands = Commands.new
$stdin.each_line(chomp: true) do |line|
  command, *words = line.split("\t", -1)
  begin
    say(command, "PGAAD_OK", "value=#{commands.public_send(command, *words)}")
  rescue Pgaad::Error => error
    commands.failure = error
    say(command, error.status, "class=#{error.class} errmsg=#{error.message}")
  rescue PG::Error => error
    say(command, error.class, "errmsg=#{error.message}")
  end
  puts "."
end

# frozen_string_literal: true

# Signs ruby-pg in to Azure Database for PostgreSQL with Microsoft Entra ID, by libpgaad.
#
#     entra = Pgaad::Client.new
#     connection = PG.connect(entra.connstring("host=myserver.postgres.database.azure.com user=app-one"))
#
# Needs libpgaad.so.0, which PGAAD_LIBRARY may name by its path; without it, or with one that is too old, this raises
# LoadError. Other Ruby threads run on while a call waits; any of them may use a client at any time.

require "fiddle"

module Pgaad
  NEEDED = [0, 1, 0].freeze # the first version that has all that is used here
  LIBRARY = ENV["PGAAD_LIBRARY"].to_s.empty? ? "libpgaad.so.0" : ENV["PGAAD_LIBRARY"]

  # What pgaad refuses to do. +status+ is the status's name, such as "PGAAD_DENIED", +code+ its number.
  class Error < StandardError
    attr_reader :status, :code

    def initialize(message, code)
      super(message)
      @code = code
      @status = STATUS_NAME.call(code).to_s
    end
  end

  # Loads the library, and gives a way to its functions.
  def self.open_library
    library = Fiddle.dlopen(LIBRARY)
    function = ->(name, arguments, result) { Fiddle::Function.new(library["pgaad_#{name}"], arguments, result) }
    if function["version_number", [], Fiddle::TYPE_INT].call < NEEDED.inject { |number, part| number * 100 + part }
      version = function["version", [], Fiddle::TYPE_VOIDP].call
      unusable("#{LIBRARY} is version #{version}, and #{NEEDED.join(".")} is needed")
    end
    function
  rescue Fiddle::DLError => error
    unusable("cannot load #{LIBRARY} (#{error.message})")
  end

  def self.unusable(why)
    raise LoadError, "pgaad: #{why}. Install pgaad, or set PGAAD_LIBRARY to the path of libpgaad.so.0."
  end
  private_class_method :open_library, :unusable

  FUNCTION = open_library
  POINTER = Fiddle::TYPE_VOIDP
  INT = Fiddle::TYPE_INT
  STATUS_NAME = FUNCTION["status_name", [INT], POINTER]
  FREE = FUNCTION["free", [POINTER], Fiddle::TYPE_VOID]
  CREATE = FUNCTION["client_new", [POINTER] * 3, INT]
  RELEASE = FUNCTION["client_free", [POINTER], Fiddle::TYPE_VOID]
  TOKEN = FUNCTION["client_get_token", [POINTER, INT, POINTER, POINTER, POINTER], INT]
  USER = FUNCTION["client_get_user", [POINTER] * 3, INT]
  CONNSTRING = FUNCTION["client_connstring", [POINTER] * 4, INT]
  private_constant(*constants - %i[Error LIBRARY])

  # One identity with its settings and its tokens.
  class Client
    # +settings+ is "key=value ..."; what it leaves out comes from the environment. Raises Error.
    def initialize(settings = "")
      handle = call { |client, errmsg| CREATE.call(settings, client, errmsg) }
      @handle = Fiddle::Pointer.new(handle.to_i, 0, RELEASE) # given back when nobody holds the client any more
    end

    # A token, for up to +timeout+ milliseconds (negative: the setting timeout_ms). Raises Error.
    def token(timeout: -1)
      ask { |token, errmsg| TOKEN.call(@handle, timeout, token, nil, errmsg) }
    end

    # The database user that the identity is, as its token says. Raises Error.
    def user
      ask { |user, errmsg| USER.call(@handle, user, errmsg) }
    end

    # A connection string for libpq, with a token where Entra is on for this server: a secret. +conninfo+ is
    # "key=value ..." or a URI; the PG* variables stand in for what it leaves out. Raises Error.
    def connstring(conninfo = "")
      ask { |connstring, errmsg| CONNSTRING.call(@handle, conninfo, connstring, errmsg) }
    end

    private

    def ask(&question)
      take(call(&question))
    end

    # What the function that the block calls gives out.
    def call
      value, errmsg = Array.new(2) { Fiddle::Pointer.malloc(Fiddle::SIZEOF_VOIDP, Fiddle::RUBY_FREE) }
      code = yield(value, errmsg)
      raise Error.new(take(errmsg.ptr), code) unless code.zero?

      value.ptr
    end

    # Copies a string of pgaad's, and gives it back.
    def take(string)
      return "pgaad: no memory" if string.null?

      string.to_s.force_encoding(Encoding::UTF_8)
    ensure
      FREE.call(string)
    end
  end
end

<?php
// Signs PHP's PDO and pgsql in to Azure Database for PostgreSQL with Microsoft Entra ID, by libpgaad.
//
//     $entra = new Pgaad\Client();
//     $pdo = $entra->pdo('host=myserver.postgres.database.azure.com user=app-one');
//
// Needs the extension FFI, and libpgaad.so.0, which PGAAD_LIBRARY may name by its path. On the command line FFI is on
// by default; under php-fpm and in a web server name this file in opcache.preload, or set ffi.enable=true.

declare(strict_types=1);

namespace Pgaad;

use FFI;

/** What pgaad refuses to do: getCode() is the status's number, getStatus() its name, such as "PGAAD_DENIED". */
final class Exception extends \RuntimeException
{
    public function __construct(string $message, int $code, private string $status)
    {
        parent::__construct($message, $code);
    }

    public function getStatus(): string
    {
        return $this->status;
    }
}

/**
 * One identity with its settings and its tokens. Without settings of its own its token stays with the process, from
 * request to request; with some, cache=file keeps it.
 */
final class Client
{
    private const NEEDED = [0, 1, 0]; // the first version that has all that is used here

    private const HEADER = '
        typedef struct pgaad_client pgaad_client;
        const char *pgaad_status_name(int32_t status);
        void pgaad_free(void *string);
        int32_t pgaad_client_new(const char *settings, pgaad_client **client, char **errmsg);
        int32_t pgaad_client_default(pgaad_client **client, char **errmsg);
        void pgaad_client_free(pgaad_client *client);
        int32_t pgaad_client_get_token(pgaad_client *client, int timeout_ms, char **token, int64_t *expires_on,
                                       char **errmsg);
        int32_t pgaad_client_get_user(pgaad_client *client, char **user, char **errmsg);
        int32_t pgaad_client_connstring(pgaad_client *client, const char *conninfo, char **connstring, char **errmsg);
    ';

    private static ?FFI $library = null;

    private ?FFI\CData $client = null;

    /**
     * @param ?string $settings "key=value ..."; what it leaves out comes from the environment. Null: the environment
     *     alone.
     * @throws FFI\Exception if there is no libpgaad, or one that is too old
     * @throws Exception
     */
    public function __construct(#[\SensitiveParameter] ?string $settings = null)
    {
        $library = self::library();
        $this->client = $library->new('pgaad_client *');
        $errmsg = $library->new('char *');
        $status = $settings === null
            ? $library->pgaad_client_default(FFI::addr($this->client), FFI::addr($errmsg))
            : $library->pgaad_client_new($settings, FFI::addr($this->client), FFI::addr($errmsg));
        if ($status !== 0) {
            throw self::failure($status, self::take($errmsg));
        }
    }

    public function __destruct()
    {
        if ($this->client !== null) {
            self::library()->pgaad_client_free($this->client);
        }
    }

    /** Two would free one client. */
    private function __clone()
    {
    }

    public function __debugInfo(): array
    {
        return [];
    }

    public function __serialize(): array
    {
        throw new \LogicException(self::class . ' cannot be serialized');
    }

    /** A token, for up to so many milliseconds (negative: the setting timeout_ms). @throws Exception */
    public function token(int $timeout = -1): string
    {
        $call = static fn ($library, $client, $token, $errmsg) =>
            $library->pgaad_client_get_token($client, $timeout, $token, null, $errmsg);
        return $this->ask($call);
    }

    /** The database user that the identity is, as its token says. @throws Exception */
    public function user(): string
    {
        $call = static fn ($library, ...$arguments) => $library->pgaad_client_get_user(...$arguments);
        return $this->ask($call);
    }

    /** A connection string for libpq, with a token where Entra is on for this server: a secret. @throws Exception */
    public function connstring(#[\SensitiveParameter] string $conninfo = ''): string
    {
        $call = static fn ($library, $client, ...$outputs) =>
            $library->pgaad_client_connstring($client, $conninfo, ...$outputs);
        return $this->ask($call);
    }

    /**
     * Connects by PDO.
     *
     * @param string $conninfo libpq's "key=value ..." or a URI; the PG* variables stand in for what it leaves out
     * @param array $options those of PDO; not PDO::ATTR_PERSISTENT, which would keep a connection for each token
     * @throws Exception if there is no token
     * @throws \PDOException if the server says no
     */
    public function pdo(#[\SensitiveParameter] string $conninfo = '', array $options = []): \PDO
    {
        // The token is the argument for passwords, which PHP shows in no trace. PDO makes a blank of each semicolon.
        preg_match_all("/(\w+)=('(?:[^'\\\\]|\\\\.)*')/s", $this->connstring($conninfo), $pairs);
        $given = array_combine($pairs[1], $pairs[2]);
        $plain = static fn (string $name): ?string =>
            isset($given[$name]) ? preg_replace('/\\\\(.)/s', '$1', substr($given[$name], 1, -1)) : null;
        $dsn = [];
        foreach (array_diff_key($given, ['user' => 0, 'password' => 0]) as $name => $value) {
            if (str_contains($value, ';')) {
                throw self::failure(2, "pgaad: PDO takes no semicolon in $name.");
            }
            $dsn[] = "$name=$value";
        }
        if (isset($given['connect_timeout'])) {
            $options += [\PDO::ATTR_TIMEOUT => (int) $plain('connect_timeout')]; // PDO's own is 30 seconds
        }
        return new \PDO('pgsql:' . implode(' ', $dsn), $plain('user'), $plain('password'), $options);
    }

    /**
     * Connects by pg_connect, which would show the token to an error handler if it failed outside of here.
     *
     * @throws Exception if there is no token
     * @throws \RuntimeException if the server says no
     */
    public function pgConnect(#[\SensitiveParameter] string $conninfo = '', int $flags = 0): \PgSql\Connection
    {
        $connstring = $this->connstring($conninfo);
        $why = '';
        set_error_handler(static function (int $level, string $message) use (&$why): bool {
            $why = $message;
            return true;
        });
        try {
            $connection = pg_connect($connstring, $flags);
        } finally {
            restore_error_handler();
        }
        return $connection ?: throw new \RuntimeException($why);
    }

    // What PHP shows of the frames of a trace must be no secret, and no memory that was given back.
    private function ask(#[\SensitiveParameter] callable $call): string
    {
        $library = self::library();
        [$value, $errmsg] = [$library->new('char *'), $library->new('char *')];
        $status = $call($library, $this->client, FFI::addr($value), FFI::addr($errmsg));
        if ($status !== 0) {
            throw self::failure($status, self::take($errmsg));
        }
        return self::take($value);
    }

    /** Copies a string of pgaad's, and gives it back. */
    private static function take(FFI\CData $string): string
    {
        if (FFI::isNull($string)) {
            return 'pgaad: no memory';
        }
        $copy = FFI::string($string);
        self::library()->pgaad_free($string);
        return $copy;
    }

    private static function failure(int $status, string $message): Exception
    {
        return new Exception($message, $status, self::library()->pgaad_status_name($status));
    }

    private static function library(): FFI
    {
        return self::$library ??= self::load(getenv('PGAAD_LIBRARY') ?: 'libpgaad.so.0');
    }

    private static function load(string $name): FFI
    {
        $failed = static fn (string $why, ?\Throwable $cause = null) => new FFI\Exception(
            "pgaad: $why. Install pgaad, or set PGAAD_LIBRARY to the path of libpgaad.so.0.", 0, $cause);
        try {
            $version = FFI::cdef('int pgaad_version_number(void); const char *pgaad_version(void);', $name);
        } catch (FFI\Exception $error) {
            throw $failed("cannot load $name ({$error->getMessage()})", $error);
        }
        [$major, $minor, $patch] = self::NEEDED;
        if ($version->pgaad_version_number() < $major * 10000 + $minor * 100 + $patch) {
            throw $failed("$name is version {$version->pgaad_version()}, and $major.$minor.$patch is needed");
        }
        return FFI::cdef(self::HEADER, $name);
    }
}

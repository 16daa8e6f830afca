<?php
// Commands for tests/suite/scripts.rs, one a line, words separated by tabs; the answer ends with a line of a dot.

require __DIR__ . '/../../examples/php/pgaad.php';

function say(string $command, string $status, string $rest): void
{
    echo preg_replace('/\s+/', ' ', "$command status=$status $rest"), "\n";
}

final class Commands
{
    public ?Pgaad\Client $client = null;
    public ?Pgaad\Exception $failure = null;

    public function new(string $settings): string
    {
        $this->client = new Pgaad\Client($settings);
        return 'made';
    }

    /** The client that outlives a request. */
    public function default(): string
    {
        $this->client = new Pgaad\Client();
        return 'made';
    }

    public function token(string $timeout = '-1'): string
    {
        return $this->client->token((int) $timeout);
    }

    public function user(): string
    {
        return $this->client->user();
    }

    public function connstring(#[SensitiveParameter] string $conninfo): string
    {
        return $this->client->connstring($conninfo);
    }

    /** All that a program might log. */
    public function inspect(#[SensitiveParameter] string $conninfo): string
    {
        $seen = [$this->client, $this->failure];
        foreach (['pdo', 'pgConnect'] as $connect) {
            try {
                $this->client->$connect($conninfo);
            } catch (RuntimeException $error) {
                $seen[] = $error;
            }
        }
        ob_start();
        foreach ($seen as $value) {
            var_dump($value);
            print_r($value);
            echo json_encode($value);
            if ($value instanceof Throwable) {
                echo $value;
            }
        }
        var_export($seen[0]);
        return ob_get_clean();
    }

    public function connect(string $conninfo): string
    {
        $sql = 'select current_user';
        $pdo = $this->client->pdo($conninfo)->query($sql)->fetchColumn();
        $pgsql = pg_fetch_result(pg_query($this->client->pgConnect($conninfo), $sql), 0);
        return $pdo === $pgsql ? $pdo : "$pdo by PDO, $pgsql by pg_connect";
    }
}

try {
    new Pgaad\Client();
} catch (FFI\Exception $error) {
    say('load', get_class($error), 'errmsg=' . $error->getMessage());
    exit;
}

$commands = new Commands();
while (($line = fgets(STDIN)) !== false) {
    $words = explode("\t", rtrim($line, "\n"));
    $command = array_shift($words);
    try {
        say($command, 'PGAAD_OK', 'value=' . $commands->$command(...$words));
    } catch (Pgaad\Exception $error) {
        $commands->failure = $error;
        say($command, $error->getStatus(), 'class=' . get_class($error) . ' errmsg=' . $error->getMessage());
    } catch (RuntimeException $error) {
        say($command, get_class($error), 'errmsg=' . $error->getMessage());
    }
    echo ".\n";
}

<?php
// Runs each line of SQL that it reads on a new connection, by PDO and by pg_connect in turn, signed in with Microsoft
// Entra ID.
//
//     echo 'select current_user' | php connect.php "host=myserver.postgres.database.azure.com user=app-one"

declare(strict_types=1);

require __DIR__ . '/pgaad.php';

$entra = new Pgaad\Client();
$conninfo = $argv[1] ?? '';

$byPdo = static fn (string $sql): array => $entra->pdo($conninfo)->query($sql)->fetchAll(PDO::FETCH_NUM);

$byPgsql = static function (string $sql) use ($entra, $conninfo): array {
    $connection = $entra->pgConnect($conninfo, PGSQL_CONNECT_FORCE_NEW);
    $result = @pg_query($connection, $sql) ?: throw new RuntimeException(pg_last_error($connection));
    return pg_fetch_all($result, PGSQL_NUM);
};

for ($line = 0; ($sql = fgets(STDIN)) !== false; $line++) {
    try {
        foreach ($line % 2 === 0 ? $byPdo($sql) : $byPgsql($sql) as $row) {
            echo implode("\t", $row), "\n";
        }
    } catch (RuntimeException $error) { // PDOException and Pgaad\Exception are such
        fwrite(STDERR, trim($error->getMessage()) . "\n");
    }
}

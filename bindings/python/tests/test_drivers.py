"""psycopg 3, psycopg2, asyncpg and SQLAlchemy, with the real server."""

import asyncio
import os
import ssl
import unittest
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import psycopg
import psycopg2
from ground import LAPTOP, SECRET, WHO, Held, logins, python, raised, shown
from psycopg.rows import dict_row
from psycopg2.extras import DictCursor
from psycopg2.pool import ThreadedConnectionPool
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout
from sqlalchemy import create_engine, exc, text
from sqlalchemy.ext.asyncio import create_async_engine

import pgaad
import pgaad.asyncpg
import pgaad.psycopg
import pgaad.psycopg2
import pgaad.sqlalchemy

ME = "app-one true"


def wrong():
    """A client whose secret is wrong."""
    own = {key: os.environ[f"PGAAD_{key.upper()}"] for key in ("client_id", "tenant_id")}
    return pgaad.Client(client_secret="wrong~secret", **own)


def one(connection):
    cursor = connection.cursor()
    cursor.execute(WHO)
    return cursor.fetchone()[0]


def url(driver):
    return f"postgresql+{driver}://app-one@localhost:{os.environ['PGPORT']}/postgres?application_name=it"


class Fresh(unittest.TestCase):
    """What is opened after a token is gone carries another one."""

    def assert_fresh(self, open_one, client=None):
        before = len(logins())
        open_one()
        (client or pgaad).invalidate()
        open_one()
        used = logins()[before:]
        self.assertEqual([role for role, _ in used], ["app-one"] * 2)
        self.assertNotEqual(used[0][1], used[1][1])

    def assert_says(self, error, kind, status_name):
        """An error of the driver's kind that says what we say and shows no secret."""
        self.assertIsInstance(error, kind)
        self.assertRegex(str(error), r"^pgaad: [^\n]+$")
        self.assertEqual(error.status_name, status_name)
        self.assertIsInstance(error.__cause__, pgaad.Error)
        self.assertEqual(error.__cause__.status_name, status_name)
        for secret in (SECRET, "wrong~secret", "eyJ"):
            self.assertNotIn(secret, shown(error))


class Psycopg(Fresh):
    def test_connects(self):
        with pgaad.psycopg.connect(autocommit=True, row_factory=dict_row, application_name="it's") as connection:
            self.assertIsInstance(connection, pgaad.psycopg.Connection)
            shown = connection.execute("show application_name").fetchone()
            self.assertEqual((shown, connection.autocommit), ({"application_name": "it's"}, True))
        with pgaad.Client() as client, pgaad.psycopg.connect("host=localhost", client=client) as connection:
            self.assertEqual(one(connection), ME)

    def test_a_pool_gives_each_a_fresh_token(self):
        with pgaad.Client() as client:
            options = {"connection_class": pgaad.psycopg.Connection, "kwargs": {"client": client}}
            with ConnectionPool("application_name=it", min_size=0, max_size=4, **options) as pool:

                def open_one():
                    held.append(pool.getconn())
                    self.assertEqual(one(held[-1]), ME)

                held = []
                self.assert_fresh(open_one, client)
                for connection in held:
                    pool.putconn(connection)

    def test_errors(self):
        for call, status_name in [
            (lambda: pgaad.psycopg.connect(client=wrong()), "PGAAD_DENIED"),
            (lambda: pgaad.psycopg.connect("host=stranger.example"), "PGAAD_INSECURE"),
            (lambda: pgaad.psycopg.Connection.connect(host="stranger.example"), "PGAAD_INSECURE"),
            (lambda: asyncio.run(pgaad.psycopg.AsyncConnection.connect(client=wrong())), "PGAAD_DENIED"),
        ]:
            self.assert_says(raised(call), psycopg.OperationalError, status_name)
        error = raised(lambda: pgaad.psycopg.connect(user="nobody"))
        self.assertIn("nobody", str(error))
        self.assertNotIn("eyJ", shown(error))
        options = {"connection_class": pgaad.psycopg.Connection, "kwargs": {"client": wrong()}}
        pool = ConnectionPool(min_size=0, max_size=1, **options)
        with pool, self.assertLogs("psycopg.pool", "WARNING") as log, self.assertRaises(PoolTimeout):
            pool.getconn(timeout=0.5)
        self.assertIn("pgaad: Entra refused the client secret", log.output[0])
        self.assertNotIn("wrong~secret", str(log.output))

    def test_an_ordinary_password(self):
        with pgaad.psycopg.connect(**LAPTOP, sslmode="require") as connection:
            self.assertEqual(one(connection), "laptop true")

    def test_threads(self):
        def open_one(_):
            with pgaad.psycopg.connect() as connection:
                return one(connection)

        with ThreadPoolExecutor(8) as threads:
            self.assertEqual(set(threads.map(open_one, range(24))), {ME})

    def test_async(self):
        async def main():
            async with await pgaad.psycopg.AsyncConnection.connect() as connection:
                cursor = await connection.execute(WHO)
                self.assertEqual(await cursor.fetchone(), (ME,))
            async with AsyncConnectionPool(connection_class=pgaad.psycopg.AsyncConnection) as pool:
                async with pool.connection() as connection:
                    cursor = await connection.execute(WHO)
                    self.assertEqual(await cursor.fetchone(), (ME,))

        asyncio.run(main())


class Psycopg2(Fresh):
    def test_connects(self):
        connection = pgaad.psycopg2.connect("host=localhost", cursor_factory=DictCursor, application_name="it's")
        self.assertIs(connection.cursor_factory, DictCursor)
        self.assertEqual(one(connection), ME)
        self.assertNotIn("eyJ", repr(connection))
        with pgaad.Client() as client:
            self.assertEqual(one(pgaad.psycopg2.connect(client=client, database="postgres")), ME)

    def test_a_pool_gives_each_a_fresh_token(self):
        class Connection(pgaad.psycopg2.Connection):
            client = pgaad.Client()

        for cls, client in [(pgaad.psycopg2.Connection, None), (Connection, Connection.client)]:
            pool = ThreadedConnectionPool(0, 4, application_name="it", connection_factory=cls)
            self.assert_fresh(lambda: self.assertEqual(one(pool.getconn()), ME), client)
            pool.closeall()

    def test_errors(self):
        class Connection(pgaad.psycopg2.Connection):
            client = wrong()

        for call, status_name in [
            (lambda: pgaad.psycopg2.connect(client=wrong()), "PGAAD_DENIED"),
            (lambda: psycopg2.connect("", connection_factory=Connection), "PGAAD_DENIED"),
            (lambda: pgaad.psycopg2.connect(host="stranger.example"), "PGAAD_INSECURE"),
        ]:
            self.assert_says(raised(call), psycopg2.OperationalError, status_name)
        text = shown(raised(lambda: pgaad.psycopg2.connect(user="nobody")))
        self.assertNotIn("eyJ", text)

    def test_an_ordinary_password(self):
        self.assertEqual(one(pgaad.psycopg2.connect(**LAPTOP, sslmode="require")), "laptop true")


class Asyncpg(Fresh):
    def run_async(self, function):
        asyncio.run(asyncio.wait_for(function(), 60))

    def test_connects(self):
        async def main():
            for dsn, keywords in [
                (None, {}),
                ("application_name=it host=localhost", {"timeout": 20}),
                (
                    f"postgresql://app-one@localhost:{os.environ['PGPORT']}/postgres",
                    {"server_settings": {"jit": "off"}},
                ),
                (None, {"host": ["localhost"], "port": [int(os.environ["PGPORT"])], "database": "postgres"}),
            ]:
                connection = await pgaad.asyncpg.connect(dsn, **keywords)
                self.assertEqual(await connection.fetchval(WHO), ME)
                name = await connection.fetchval("show application_name")
                self.assertEqual(name, "it" if dsn and "application_name" in dsn else "")
                await connection.close()

        self.run_async(main)

    def test_a_pool_gives_each_a_fresh_token(self):
        async def main():
            client = pgaad.Client()
            async with pgaad.asyncpg.create_pool(client=client, min_size=0, max_size=4) as pool:
                before = len(logins())
                first = await pool.acquire()
                client.invalidate()
                second = await pool.acquire()
                self.assertEqual([await first.fetchval(WHO), await second.fetchval(WHO)], [ME, ME])
                (_, a), (_, b) = logins()[before:]
                self.assertNotEqual(a, b)
                await pool.release(first)
                await pool.release(second)

        self.run_async(main)

    def test_tls_is_verified(self):
        other = ssl.create_default_context()
        careless = ssl.create_default_context()
        careless.check_hostname = False

        async def main():
            good = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])
            connection = await pgaad.asyncpg.connect(ssl=good)
            self.assertEqual(await connection.fetchval(WHO), ME)
            await connection.close()
            before = len(logins())
            for context, kind in [
                (other, ssl.SSLCertVerificationError),
                (careless, pgaad.Insecure),
                (False, pgaad.Insecure),
                ("disable", pgaad.Insecure),
            ]:
                with self.subTest(context=context), self.assertRaises(kind):
                    await pgaad.asyncpg.connect(ssl=context)
            with self.assertRaises(ssl.SSLCertVerificationError):
                await pgaad.asyncpg.connect("sslrootcert=" + ssl.get_default_verify_paths().cafile)
            for refused in ("host=stranger.example", "hostaddr=127.0.0.1", "sslcrldir=/x"):
                with self.subTest(refused), self.assertRaises(pgaad.Error):
                    await pgaad.asyncpg.connect(refused)
            with self.assertRaises(pgaad.ConfigError):
                await pgaad.asyncpg.connect(password=lambda: "x")
            self.assertEqual(len(logins()), before)

        if ssl.get_default_verify_paths().cafile is None:
            self.skipTest("no bundle of roots here")
        self.run_async(main)

    def test_errors_and_ordinary_passwords(self):
        async def main():
            with self.assertRaises(pgaad.Denied):
                await pgaad.asyncpg.connect(client=wrong())
            connection = await pgaad.asyncpg.connect(**LAPTOP, ssl="require")
            self.assertEqual(await connection.fetchval(WHO), "laptop true")
            await connection.close()
            with self.assertRaises(asyncpg.InvalidAuthorizationSpecificationError):
                await pgaad.asyncpg.connect(user="nobody")

        self.run_async(main)
        for options in ({"client": wrong()}, {"user": "nobody"}, {"host": "stranger.example"}):
            text = shown(raised(lambda: asyncio.run(pgaad.asyncpg.connect(**options))))
            self.assertFalse([secret for secret in (SECRET, "wrong~secret", "eyJ") if secret in text])

    def test_the_loop_goes_on_while_a_token_is_fetched(self):
        async def main():
            for connect in (pgaad.asyncpg.connect, pgaad.psycopg.AsyncConnection.connect):
                with Held() as request:
                    connecting = asyncio.create_task(connect(client=pgaad.Client()))
                    # If the loop waited for the token, nobody would let it go.
                    await asyncio.to_thread(request.wait)
                    self.assertFalse(connecting.done())
                    request.let_go()
                    await (await connecting).close()

        self.run_async(main)


class SqlAlchemy(Fresh):
    def test_connects(self):
        for driver in ("psycopg", "psycopg2"):
            with self.subTest(driver), pgaad.Client() as client:
                engine = create_engine(url(driver), pool_size=4)
                pgaad.sqlalchemy.listen(engine, client)
                held = []

                def open_one():
                    held.append(engine.connect())
                    self.assertEqual(held[-1].scalar(text(WHO)), ME)
                    self.assertEqual(held[-1].scalar(text("show application_name")), "it")

                with engine.connect():  # the first one also asks about the server
                    pass
                engine.dispose()
                self.assert_fresh(open_one, client)
                for connection in held:
                    connection.close()
                engine.dispose()

    def test_async(self):
        async def main():
            for driver in ("psycopg", "asyncpg"):
                engine = create_async_engine(
                    f"postgresql+{driver}://app-one@localhost:{os.environ['PGPORT']}/postgres"
                )
                pgaad.sqlalchemy.listen(engine)
                async with engine.connect() as connection:
                    self.assertEqual(await connection.scalar(text(WHO)), ME)
                await engine.dispose()

        asyncio.run(main())

    def test_errors(self):
        for driver in ("psycopg", "psycopg2"):
            engine = create_engine(url(driver))
            pgaad.sqlalchemy.listen(engine, wrong())
            error = raised(engine.connect)
            self.assertIsInstance(error, exc.OperationalError)
            dbapi = {"psycopg": psycopg, "psycopg2": psycopg2}[driver]
            self.assert_says(error.orig, dbapi.OperationalError, "PGAAD_DENIED")
            self.assertNotIn("wrong~secret", shown(error))
        engine = create_engine("postgresql+pg8000://localhost/x", module=psycopg)
        pgaad.sqlalchemy.listen(engine)
        self.assertRaises(pgaad.ConfigError, engine.connect)


class Library(unittest.TestCase):
    def test_a_missing_one_is_named(self):
        for module, call, kind in [
            ("pgaad.psycopg", "pgaad.psycopg.connect()", "LibraryError"),
            ("pgaad.psycopg2", "pgaad.psycopg2.connect()", "LibraryError"),
            (
                "pgaad.psycopg2, psycopg2",
                "psycopg2.connect('', connection_factory=pgaad.psycopg2.Connection)",
                "LibraryError",
            ),
            ("pgaad.django.options as o", "o.client_for({'AAD_OPTIONS': {}}, 'it')", "ImproperlyConfigured"),
        ]:
            done = python(
                f"import {module}\ntry:\n    {call}\nexcept Exception as e:\n    print(type(e).__name__, e)",
                PGAAD_LIBRARY="/nonexistent/libpgaad.so.0",
            )
            self.assertRegex(done.stdout, f"^{kind} .*pgaad: .*named by PGAAD_LIBRARY cannot be loaded", done.stderr)


if __name__ == "__main__":
    unittest.main()

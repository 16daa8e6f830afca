"""The engine for Django, and the original's name for it. With DRIVER=psycopg2, as where there is no psycopg 3."""

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from contextlib import ExitStack
from io import StringIO

if os.environ.get("DRIVER") == "psycopg2":
    sys.modules["psycopg"] = None  # type: ignore[assignment]

from ground import APP_TWO, LAPTOP, SECRET, control, logins, raised, shown, tokens

os.environ.setdefault("SITE_SECRET", SECRET)
os.environ["DJANGO_SETTINGS_MODULE"] = "django_site"

import django
import django_site
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections
from django.db.backends.postgresql.psycopg_any import is_psycopg3
from django.test import AsyncClient, Client
from django.test.runner import DiscoverRunner
from django.views.debug import ExceptionReporter

import pgaad

django.setup()

ORIGINAL = django_site.ORIGINAL
IDS = {"SP_CLIENT_ID": os.environ["PGAAD_CLIENT_ID"], "SP_TENANT_ID": os.environ["PGAAD_TENANT_ID"]}
OWN = {"SP_CLIENT_SECRET": SECRET, **IDS}


def scalar(database, sql="select current_user"):
    with database.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


class Database(unittest.TestCase):
    """Has databases of its own."""

    def setUp(self):
        self.addCleanup(connections.close_all)
        self.addCleanup(control, "DELETE", "/faults")

    def database(self, alias="it", **options):
        configured = {alias: django_site.database(**options)}
        connections.configure_settings({DEFAULT_DB_ALIAS: configured[alias], **configured})
        engine = __import__(f"{configured[alias]['ENGINE']}.base", fromlist=["DatabaseWrapper"])
        made = engine.DatabaseWrapper(configured[alias], alias)
        self.addCleanup(lambda: made.close_pool() if is_psycopg3 else None)
        self.addCleanup(made.close)
        return made


class Options(Database):
    def test_the_originals_settings_run_unmodified(self):
        self.assertEqual(settings.DATABASES["default"]["ENGINE"], ORIGINAL)
        self.assertEqual(scalar(connection), "app-one")
        self.assertEqual(connection.vendor, "postgresql")

    def test_settings_of_the_contract(self):
        for options in [
            {},  # the environment alone
            {"auth": "client_secret", "refresh_before_minutes": 10, "timeout_ms": 20000},
            {**OWN, "cache": "memory", "allow_plaintext": ["elsewhere.example"]},
            {**{f"`{key}`": value for key, value in OWN.items()}, "REFRESH_BEFORE_MINUTES": "7"},
        ]:
            with self.subTest(options):
                self.assertEqual(scalar(self.database(AAD_OPTIONS=options)), "app-one")

    def test_without_them_passwords_are_ordinary(self):
        user, password = LAPTOP["user"], LAPTOP["password"]
        made = self.database(USER=user, PASSWORD=password, OPTIONS={"sslmode": "require"})
        self.assertIsNone(made.aad_client)
        self.assertEqual(made.get_connection_params()["password"], password)
        self.assertEqual(scalar(made), "laptop")

    def test_two_databases_may_have_two_principals(self):
        two = {"SP_CLIENT_ID": APP_TWO, "SP_CLIENT_SECRET": control("POST", f"/rotate-secret/{APP_TWO}")}
        two = {**OWN, **two}
        for _ in range(2):
            self.assertEqual(scalar(self.database(AAD_OPTIONS=OWN)), "app-one")
            self.assertEqual(scalar(self.database(ENGINE=ORIGINAL, USER="app-two", AAD_OPTIONS=two)), "app-two")

    def test_all_that_say_the_same_share_a_client(self):
        one, other = (
            self.database(AAD_OPTIONS=dict(OWN)),
            self.database("other", AAD_OPTIONS=dict(reversed(OWN.items()))),
        )
        self.assertIs(one.aad_client, other.aad_client)
        scalar(one)
        before = tokens()
        scalar(other)
        self.assertEqual(tokens(), before)

    def test_what_is_missing_or_wrong_names_itself(self):
        for options, named in [
            ({key: value for key, value in OWN.items() if key != "SP_CLIENT_ID"}, "lacks SP_CLIENT_ID"),
            (IDS, "lacks SP_CLIENT_SECRET"),
            ({**OWN, "SP_TENANT_ID": ""}, "lacks SP_TENANT_ID"),
            ({**OWN, "SP_TENANT_ID": None}, "lacks SP_TENANT_ID"),
            ({"client_idd": "x"}, "client_id"),
            ({**OWN, "SP_CLIENT_SECRETS": "x"}, "SP_CLIENT_SECRETS; did you mean SP_CLIENT_SECRET?"),
            ({**OWN, "REFRESH_BEFORE_MINUTES": "soon"}, "refresh_before_minutes"),
            ({"auth": "something"}, "auth"),
            (["SP_CLIENT_ID"], "has to be a dictionary"),
        ]:
            with self.subTest(named), self.assertRaises(ImproperlyConfigured) as caught:
                self.database("reports", AAD_OPTIONS=options).cursor()
            self.assertIn(named, str(caught.exception))
            self.assertIn("'reports'", str(caught.exception))
            self.assertNotIn(SECRET, str(caught.exception))
        with self.assertRaises(ImproperlyConfigured) as caught:
            self.addCleanup(os.environ.__setitem__, "PGUSER", os.environ.pop("PGUSER"))
            self.database(USER="", AAD_OPTIONS=OWN).cursor()
        self.assertIn("user", str(caught.exception))


class Errors(Database):
    def test_are_of_djangos_kind_and_show_no_secret(self):
        wrong = {**OWN, "SP_CLIENT_SECRET": "wrong~secret"}
        for options, status_name, kind in [
            ({"AAD_OPTIONS": wrong}, "PGAAD_DENIED", pgaad.Denied),
            ({"HOST": "stranger.example", "AAD_OPTIONS": OWN}, "PGAAD_INSECURE", pgaad.Insecure),
            ({"AAD_OPTIONS": OWN, "USER": "app-two"}, None, None),
            ({"AAD_OPTIONS": {**OWN, "auth": "off"}}, None, None),
        ]:
            error = raised(self.database(**options).cursor)
            self.assertIsInstance(error, OperationalError)
            if kind:
                self.assertRegex(str(error), r"^pgaad: [^\n]+$")
                self.assertEqual(error.__cause__.status_name, status_name)
                self.assertIsInstance(error.__cause__.__cause__, kind)
            page = ExceptionReporter(None, type(error), error, error.__traceback__)
            for text in (shown(error), page.get_traceback_text()):
                for secret in (SECRET, "wrong~secret", "eyJ"):
                    self.assertNotIn(secret, text)
            # The page for developers shows variables of all, the driver's too, which has the token.
            for secret in (SECRET, "wrong~secret"):
                self.assertNotIn(secret, page.get_traceback_html())

    @unittest.skipUnless(is_psycopg3, "pools are psycopg 3's")
    def test_a_pool_says_why_it_has_no_connection(self):
        wrong = {**OWN, "SP_CLIENT_SECRET": "wrong~secret"}
        pool = {"min_size": 0, "max_size": 2, "timeout": 0.5}
        with self.assertRaises(OperationalError) as caught, self.assertLogs("psycopg.pool"):
            self.database(AAD_OPTIONS=wrong, OPTIONS={"pool": pool}).cursor()
        self.assertIn("pgaad: Entra refused the client secret", str(caught.exception))


class Connections(Database):
    def fresh(self, made, close):
        """What is opened after a token is gone carries another one."""
        before = len(logins())
        scalar(made)
        close()
        made.aad_client.invalidate()
        self.assertEqual(scalar(made), "app-one")
        used = logins()[before:]
        self.assertEqual(len(used), 2)
        self.assertNotEqual(used[0], used[1])

    def test_each_carries_a_fresh_token(self):
        made = self.database(AAD_OPTIONS=OWN)
        self.fresh(made, made.close)

    @unittest.skipUnless(is_psycopg3, "pools are psycopg 3's")
    def test_each_of_a_pool_carries_a_fresh_token(self):
        for pool in (True, {"min_size": 0, "max_size": 2}):
            made = self.database("pooled", AAD_OPTIONS=OWN, OPTIONS={"pool": pool})

            def close():
                made.close()
                made.close_pool()

            scalar(made)  # opens the pool; with True, all its connections, at leisure
            made.close()
            made.pool.wait()
            close()
            if pool is True:
                made.settings_dict["OPTIONS"]["pool"] = {"min_size": 1, "max_size": 1}
            self.fresh(made, close)
            held = made.pool
            close()
            self.assertTrue(held.closed)

    @unittest.skipUnless(is_psycopg3, "pools are psycopg 3's")
    def test_a_pool_of_several_threads(self):
        made = self.database("threads", AAD_OPTIONS=OWN, OPTIONS={"pool": {"min_size": 0, "max_size": 3}})
        got = []

        def ask():
            mine = made.copy("threads")
            try:
                got.append(scalar(mine))
            finally:
                mine.close()

        threads = [threading.Thread(target=ask) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        self.assertEqual(got, ["app-one"] * 8)

    def test_persistent_ones_and_health_checks(self):
        made = self.database(AAD_OPTIONS=OWN, CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
        pid = scalar(made, "select pg_backend_pid()")
        made.aad_client.invalidate()
        made.close_if_unusable_or_obsolete()
        self.assertEqual(scalar(made, "select pg_backend_pid()"), pid)
        other = self.database("other", AAD_OPTIONS=OWN)
        scalar(other, f"select pg_terminate_backend({pid})")
        made.close_if_unusable_or_obsolete()
        made.health_check_done = False
        self.assertNotEqual(scalar(made, "select pg_backend_pid()"), pid)

    def test_threads_have_their_own(self):
        got = []

        def ask():
            got.append(scalar(connections["default"], "select pg_backend_pid()"))
            barrier.wait(60)
            connections["default"].close()

        barrier = threading.Barrier(6)
        threads = [threading.Thread(target=ask) for _ in range(6)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        self.assertEqual(len(set(got)), 6)

    def test_a_failed_refresh_does_no_harm_while_a_token_lives(self):
        before = control("GET", "/config")
        self.addCleanup(control, "PUT", "/config", before)
        control("PUT", "/config", {"refresh_in": 1})
        made = self.database(AAD_OPTIONS={**OWN, "timeout_ms": 3000})
        made.aad_client.invalidate()
        scalar(made)
        control("PUT", "/faults", {"kind": "reset"})
        deadline = time.monotonic() + 60
        while made.aad_client.stats()["failures"] == 0 and time.monotonic() < deadline:
            made.close()
            self.assertEqual(scalar(made), "app-one")
        self.assertGreater(made.aad_client.stats()["failures"], 0)
        made.close()
        self.assertEqual(scalar(made), "app-one")

    def test_processes_share_a_token_by_a_cache(self):
        with tempfile.TemporaryDirectory() as folder:
            program = (
                "import os, django, django_site\n"
                "django.setup()\n"
                "from django.db import connection\n"
                f"connection.settings_dict['AAD_OPTIONS']['cache'] = 'file:{folder}/tokens'\n"
                "with connection.cursor() as cursor:\n"
                "    cursor.execute('select current_user'); print(cursor.fetchone()[0])\n"
            )
            before = tokens()
            for _ in range(3):
                done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
                self.assertEqual((done.stdout, done.returncode), ("app-one\n", 0), done.stderr)
            self.assertEqual(tokens(), before + 1)

    def test_views(self):
        self.assertEqual(Client().get("/").content, b"app-one True")

        async def main():
            client = AsyncClient()
            got = await asyncio.gather(*(client.get("/async") for _ in range(5)))
            return {answer.content.split(b" ", 1)[1] for answer in got}

        call_command("migrate", verbosity=0)
        self.assertEqual(asyncio.run(main()), {b"app-one True"})


class Commands(Database):
    """They need the right to create databases, and to create tables in this one."""

    def test_migrate_and_inspectdb(self):
        call_command("migrate", verbosity=0)
        said = StringIO()
        call_command("inspectdb", "auth_user", stdout=said)
        self.assertIn("class AuthUser(models.Model):", said.getvalue())

    def test_the_test_runner_makes_databases(self):
        runner = DiscoverRunner(verbosity=0, interactive=False, parallel=2)
        made = runner.setup_databases(aliases={"default"})
        try:
            self.assertEqual(scalar(connection, "select current_database()"), "test_postgres")
            names = scalar(connection, "select count(*) from pg_database where datname like 'test_postgres_%%'")
            self.assertEqual(names, 2)
        finally:
            runner.teardown_databases(made)
        self.assertEqual(connection.settings_dict["NAME"], "postgres")

    def dbshell(self, *parameters, **options):
        """What psql says: run as `manage.py dbshell` runs it."""
        made = self.database(**options) if options else connection
        with ExitStack() as stack:
            out = stack.enter_context(tempfile.TemporaryFile())
            kept = os.dup(1)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, 1)
            os.dup2(out.fileno(), 1)
            made.client.runshell(["-XAtq", *parameters])
            out.seek(0)
            return out.read().decode()

    def test_dbshell_has_no_token_on_its_command_line(self):
        for options in ({}, {"AAD_OPTIONS": OWN, "NAME": ""}):
            # The shell that psql starts is its child.
            shown = r"\! tr '\0' '\n' </proc/$PPID/cmdline"
            said = self.dbshell("-c", "select current_user, current_database()", "-c", shown, **options)
            self.assertTrue(said.startswith("app-one|postgres\n"), said)
            self.assertIn("sslmode='verify-full'", said)
            self.assertNotIn("eyJ", said)
        # On again from inside.
        self.assertEqual(self.dbshell("-c", r"\c postgres", "-c", "select ssl from pg_stat_ssl limit 1"), "t\n")

    def test_dbshell_with_an_ordinary_password(self):
        options = {"USER": LAPTOP["user"], "PASSWORD": LAPTOP["password"], "OPTIONS": {"sslmode": "require"}}
        self.assertEqual(self.dbshell("-c", "select current_user", **options), "laptop\n")

    def test_dbshell_says_what_is_wrong(self):
        wrong = {**OWN, "SP_CLIENT_SECRET": "wrong~secret"}
        self.assertRaises(OperationalError, self.dbshell, AAD_OPTIONS=wrong)
        self.assertRaises(ImproperlyConfigured, self.dbshell, AAD_OPTIONS=IDS)


if __name__ == "__main__":
    unittest.main()

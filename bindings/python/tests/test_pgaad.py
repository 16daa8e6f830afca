"""Tokens, settings, callbacks, errors, threads, forks."""

import builtins
import ctypes
import gc
import multiprocessing
import os
import pickle
import time
import unittest
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

from ground import APP_TWO, LAPTOP, SECRET, Held, control, python, raised, shown, tokens

import pgaad
from pgaad._conninfo import join, parse


def in_a_child(queue):
    queue.put(len(pgaad.token()))


class Tokens(unittest.TestCase):
    def tearDown(self):
        control("DELETE", "/faults")

    def test_a_token_is_a_string_that_does_not_show_itself(self):
        token = pgaad.token()
        self.assertTrue(isinstance(token, str) and token.startswith("eyJ"))
        self.assertIn(token, control("GET", "/tokens"))
        self.assertTrue(time.time() + 60 < token.expires_on < time.time() + 90000)
        copy = pickle.loads(pickle.dumps(token))
        self.assertEqual((copy, copy.expires_on), (token, token.expires_on))
        shows = [repr(token), repr([token]), repr(pgaad.connstring()), repr(pgaad.parameters())]
        self.assertFalse([text for text in shows if "eyJ" in text])

    def test_each_failure_has_its_class(self):
        off = "PGAAD_DISABLED"
        with self.assertRaises(pgaad.Disabled) as caught, pgaad.Client(auth="off") as client:
            client.token()
        self.assertEqual((caught.exception.status, caught.exception.status_name), (3, off))
        self.assertRegex(str(caught.exception), r"^pgaad: [^\n]+$")
        for settings, fault, kind, also in [
            ({"client_secret": "wrong"}, None, pgaad.Denied, pgaad.Error),
            ({"auth": "managed_identity"}, None, pgaad.Unavailable, pgaad.Error),
            ({"client_idd": "x"}, None, pgaad.ConfigError, ValueError),
            ({"timeout_ms": 1500}, {"kind": "reset"}, pgaad.NetworkError, ConnectionError),
            ({"timeout_ms": 300}, {"kind": "hang"}, pgaad.TimeoutError, builtins.TimeoutError),
            ({}, {"kind": "garbage_json"}, pgaad.ProtocolError, pgaad.Error),
            ({}, {"kind": "status", "status": 429, "retry_after": 300}, pgaad.Throttled, pgaad.Error),
        ]:
            with self.subTest(kind=kind.__name__):
                control("DELETE", "/faults")
                if fault:
                    control("PUT", "/faults", fault)
                if "client_secret" in settings:
                    settings.update({key: os.environ[f"PGAAD_{key.upper()}"] for key in ("client_id", "tenant_id")})
                error = raised(lambda: pgaad.Client(**settings).token())
                self.assertIs(type(error), kind)
                self.assertIsInstance(error, also)
                self.assertIsInstance(error, pgaad.Error)
                self.assertRegex(str(error), r"^pgaad: [^\n]+$")
                self.assertNotIn(SECRET, shown(error))
                again = pickle.loads(pickle.dumps(error))
                self.assertEqual((type(again), again.status, str(again)), (kind, error.status, str(error)))

    def test_the_classes_are_the_librarys_statuses(self):
        name_of = ctypes.CDLL(os.environ["PGAAD_LIBRARY"]).pgaad_status_name
        name_of.restype = ctypes.c_char_p
        known = {status: error.status_name for status, error in pgaad._errors.BY_STATUS.items()}
        named = {status: name_of(status).decode() for status in range(1, 100)}
        self.assertEqual(known, {status: name for status, name in named.items() if name != "PGAAD_UNKNOWN"})
        stranger = pgaad._errors.of(77, "x")
        self.assertEqual((type(stranger), stranger.status, stranger.status_name), (pgaad.Error, 77, "PGAAD_UNKNOWN"))

    def test_a_stranger_gets_no_token(self):
        with self.assertRaises(pgaad.Insecure) as caught:
            pgaad.connstring("host=stranger.example")
        self.assertIn("server_hosts", str(caught.exception))
        with pgaad.Client(server_hosts=["db.example.com", "*.more.example"]) as client:
            self.assertEqual(client.parameters(host="a.more.example")["sslmode"], "verify-full")

    def test_no_secret_in_a_traceback_with_variables(self):
        secret, own = "geheim~1", {"host": "x.postgres.database.azure.com", "sslmode": "disable"}
        for call in (
            lambda: pgaad.Client(client_secret=secret, client_idd="x"),
            lambda: pgaad.Client(f"client_secret={secret} client_idd=x"),
            lambda: pgaad.Client(client_secret=secret, tenant_id="a/b"),
            lambda: pgaad.connstring(password=secret, **own),
            lambda: pgaad.parameters(password=secret, **own),
            lambda: pgaad.default_client().connstring(password=secret, **own),
            lambda: pgaad.default_client().parameters(password=secret, **own),
            lambda: pgaad.connstring(password=secret, **{"no name": "x"}),
        ):
            error = raised(call)
            self.assertIsInstance(error, pgaad.Error)
            self.assertNotIn(secret, shown(error))

    def test_timeouts_are_seconds(self):
        with pgaad.Client() as client:
            with self.assertRaises(pgaad.TimeoutError):
                client.token(timeout=0)
            client.token(timeout=30.5)
            client.token(timeout=0)
            client.token(timeout=float("inf"))
            for wrong in (-1, float("nan")):
                with self.assertRaises(pgaad.InvalidArgument):
                    client.token(timeout=wrong)

    def test_what_c_cannot_take_is_refused(self):
        for call in (
            lambda: pgaad.connstring("host=localhost\0x"),
            lambda: pgaad.Client("auth=off\0"),
            lambda: pgaad.connstring(**{"host x": "y"}),
            lambda: pgaad.connstring(**{"user='x' host": "y"}),
        ):
            self.assertRaises(pgaad.InvalidArgument, call)

    def test_an_applications_token_has_no_user(self):
        with self.assertRaises(pgaad.ConfigError) as caught:
            pgaad.user()
        self.assertIn("PGUSER", str(caught.exception))

    def test_a_users_token_has_one(self):
        # Who it is says the token, which nobody checks on its way.
        import base64
        import json

        claims = {"exp": int(time.time()) + 3600, "upn": "a@example.com", "aud": "x"}
        parts = [
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "none"}, claims)
        ]
        token = b".".join([*parts, b"eA"]).decode()
        with pgaad.Client(callback=lambda scope, timeout: token) as client:
            self.assertEqual(client.user(), "a@example.com")

    def test_stats_are_a_dictionary(self):
        pgaad.token()
        stats = pgaad.stats()
        self.assertEqual(stats["credential"], "client_secret")
        self.assertGreater(stats["hits"] + stats["misses"], 0)
        self.assertNotIn(SECRET, repr(stats))

    def test_options_as_string_uri_and_keywords(self):
        weird = "it's a \\ 'quoted' \n=\tvalue € "
        for conninfo in ("application_name=no port=5", "postgresql://localhost:5/?application_name=no", ""):
            with self.subTest(conninfo):
                found = pgaad.parameters(conninfo, application_name=weird, host="localhost", port=6, options=None)
                self.assertEqual((found["application_name"], found["host"], found["port"]), (weird, "localhost", "6"))
                self.assertNotIn("options", found)
        self.assertEqual(parse(join("", {"a": weird, "b": True, "c": ["x", "y"], "d": Path("/e")})),
                         {"a": weird, "b": "on", "c": "x,y", "d": "/e"})  # fmt: skip
        self.assertEqual(parse(r"a=b\ c d = 'e' f=''"), {"a": "b c", "d": "e", "f": ""})

    def test_without_entra_the_options_are_the_callers(self):
        found = pgaad.parameters(host="localhost", **LAPTOP)
        self.assertEqual((found["password"], "sslmode" in found), (LAPTOP["password"], False))

    def test_the_default_client_rereads_its_environment(self):
        pgaad.token()
        os.environ["PGAAD_CLIENT_SECRET"] = "wrong"
        try:
            pgaad.token()
            pgaad.invalidate()
            self.assertRaises(pgaad.Denied, pgaad.token)
        finally:
            os.environ["PGAAD_CLIENT_SECRET"] = SECRET
        pgaad.invalidate()
        pgaad.token()

    def test_several_identities(self):
        secret = control("POST", f"/rotate-secret/{APP_TWO}")
        with pgaad.Client(client_id=APP_TWO, client_secret=secret, tenant_id=os.environ["PGAAD_TENANT_ID"]) as two:
            two.token()
            self.assertEqual(two.stats()["appid"], APP_TWO)
            self.assertNotEqual(two.token(), pgaad.token())


class Callbacks(unittest.TestCase):
    def token(self):
        return control("GET", f"/token/{os.environ['PGAAD_CLIENT_ID']}")

    def test_what_it_may_return(self):
        token, until = self.token(), int(time.time()) + 1000
        for answer, expires_on in [
            (token, None),
            (pgaad.Answer(token, until), until),
            (SimpleNamespace(token=token, expires_on=float(until), token_type="Bearer"), until),
        ]:
            asked = []

            def fetch(scope, timeout):
                asked.append((scope, timeout))
                return answer

            with pgaad.Client(callback=fetch) as client:
                got = client.token(timeout=20)
                self.assertEqual(got, token)
                if expires_on:
                    self.assertEqual(got.expires_on, expires_on)
                client.token()
            ((scope, timeout),) = asked
            self.assertEqual(scope, "https://ossrdbms-aad.database.windows.net/.default")
            self.assertTrue(0 < timeout <= 20)

    def test_what_it_raises_is_the_cause(self):
        for fault, kind in [
            (RuntimeError("no vault here"), pgaad.Unavailable),
            (KeyError(), pgaad.Unavailable),
            (ConnectionRefusedError(111, "refused"), pgaad.NetworkError),
            (builtins.TimeoutError("too slow"), pgaad.TimeoutError),
            (pgaad.Denied("pgaad: No.\nNever."), pgaad.Denied),
        ]:
            for thread in ("caller", "any"):

                def fetch(scope, timeout):
                    raise fault

                with (
                    self.subTest(fault=fault, thread=thread),
                    pgaad.Client(callback=fetch, callback_thread=thread) as c,
                ):
                    with self.assertRaises(kind) as caught:
                        c.token()
                    self.assertIs(caught.exception.__cause__, fault)
                    self.assertRegex(str(caught.exception), r"^pgaad: The token callback failed: [^\n]+$")
                    # Another failure isn't this one.
                    with self.assertRaises(pgaad.Insecure) as caught:
                        c.connstring("host=stranger.example")
                    self.assertIsNone(caught.exception.__cause__)

    def test_what_is_no_token_is_said(self):
        for answer in (None, 5, "", "not\0one"):
            with pgaad.Client(callback=lambda scope, timeout: answer) as client:
                self.assertRaises(pgaad.Error, client.token)

    def test_an_interrupt_is_the_programs(self):
        def fetch(scope, timeout):
            raise KeyboardInterrupt

        with pgaad.Client(callback=fetch) as client:
            self.assertRaises(KeyboardInterrupt, client.token)

    def test_it_cannot_call_its_own_client(self):
        with pgaad.Client(callback=lambda scope, timeout: client.token()) as client:
            with self.assertRaises(pgaad.InvalidArgument) as caught:
                client.token()
            self.assertIsInstance(caught.exception.__cause__, pgaad.InvalidArgument)

    def test_it_is_let_go_with_its_client(self):
        class Fetch:
            def __call__(self, scope, timeout):
                raise RuntimeError

        fetch = Fetch()
        gone = weakref.ref(fetch)
        client = pgaad.Client(callback=fetch)
        self.assertRaises(pgaad.Unavailable, client.token)
        del fetch
        client.close()
        gc.collect()
        self.assertIsNone(gone())
        # Also where somebody keeps the error.
        held = pgaad._client._Callback.held
        before, client = len(held), pgaad.Client(callback=Fetch())
        try:
            client.token()
        except pgaad.Unavailable as error:
            kept = error
        self.assertEqual(len(held), before + 1)
        client.close()
        self.assertEqual(len(held), before)
        self.assertIsInstance(kept.__cause__, RuntimeError)

    def test_a_program_that_ends_waits_for_one_that_runs(self):
        done = python(
            "import atexit, pgaad, threading\n"
            "running, ending = threading.Event(), threading.Event()\n"
            "atexit.register(ending.set)\n"  # the last that is registered is called first
            "def fetch(scope, timeout):\n"
            "    running.set(); ending.wait(); sum(range(3_000_000)); print('fetched'); raise RuntimeError\n"
            "client = pgaad.Client(callback=fetch, callback_thread='any')\n"
            "threading.Thread(target=lambda: client.token(timeout=0.05), daemon=True).start()\n"
            "running.wait(); print('end')"
        )
        self.assertEqual((done.returncode, done.stdout), (0, "end\nfetched\n"), done.stderr)


class Concurrency(unittest.TestCase):
    def test_of_many_threads_one_fetches_while_others_run(self):
        before = tokens()
        with Held() as request, pgaad.Client() as client, ThreadPoolExecutor(32) as threads:
            got = [threads.submit(client.token) for _ in range(32)]
            request.wait()  # this thread runs while they wait
            self.assertFalse(any(one.done() for one in got))
            request.let_go()
            self.assertEqual(len({one.result() for one in got}), 1)
        self.assertEqual(tokens(), before + 1)

    def test_a_client_that_is_closed_finishes_what_runs(self):
        client = pgaad.Client()
        with Held() as request, ThreadPoolExecutor(1) as thread:
            got = thread.submit(client.token)
            request.wait()
            client.close()
            client.close()
            self.assertRaises(pgaad.InvalidArgument, client.token)
            request.let_go()
            self.assertTrue(got.result().startswith("eyJ"))
        self.assertEqual(repr(client), "<pgaad.Client, closed>")

    def test_after_a_fork(self):
        pgaad.token()
        for method in ("fork", "spawn"):
            context = multiprocessing.get_context(method)
            queue = context.Queue()
            child = context.Process(target=in_a_child, args=(queue,))
            child.start()
            self.assertGreater(queue.get(timeout=60), 100)
            child.join(60)
            self.assertEqual(child.exitcode, 0)

    def test_a_fork_amid_a_fetch(self):
        client = pgaad.Client()
        with Held() as request, ThreadPoolExecutor(1) as thread:
            got = thread.submit(client.token)
            request.wait()
            child = os.fork()
            if child == 0:
                try:
                    os._exit(0 if client.token().startswith("eyJ") else 1)
                finally:
                    os._exit(2)
            self.assertEqual(os.waitpid(child, 0)[1], 0)
            request.let_go()
            self.assertTrue(got.result().startswith("eyJ"))


class Library(unittest.TestCase):
    PROGRAM = (
        "import sys, pgaad\n"
        "try:\n"
        "    pgaad.token()\n"
        "except pgaad.Error as error:\n"
        "    print(type(error).__name__, isinstance(error, ImportError), error)\n"
    )

    def test_a_missing_one_is_named(self):
        for path in ("/nonexistent/libpgaad.so.0", __file__):
            done = python(self.PROGRAM, PGAAD_LIBRARY=path)
            self.assertRegex(
                done.stdout, "^LibraryError True pgaad: .*named by PGAAD_LIBRARY cannot be loaded: " + path
            )
        done = python(self.PROGRAM, PGAAD_LIBRARY="", LD_LIBRARY_PATH="")
        if "LibraryError" not in done.stdout:
            self.skipTest("a libpgaad is installed on this machine")
        self.assertRegex(done.stdout, "^LibraryError True pgaad: .*of this system cannot be loaded.*PGAAD_LIBRARY")

    def test_the_loader_finds_it(self):
        folder = os.environ.get("LIBRARY_FOLDER")
        if not folder:
            self.skipTest("LIBRARY_FOLDER names no folder with libpgaad.so.0")
        done = python("import pgaad; print(pgaad.version())", PGAAD_LIBRARY="", LD_LIBRARY_PATH=folder)
        self.assertEqual(done.stdout, pgaad.__version__ + "\n", done.stderr)

    def test_another_version_is_named(self):
        if old := os.environ.get("OLD_LIBRARY"):
            done = python(self.PROGRAM, PGAAD_LIBRARY=old)
            self.assertRegex(done.stdout, "^LibraryError True pgaad: .*old")
        for limits, word in [("MINIMUM = 101", "old"), ("LIMIT = 100", "new")]:
            done = python(f"import pgaad._library\npgaad._library.{limits}\n{self.PROGRAM}")
            self.assertRegex(done.stdout, f"^LibraryError True pgaad: .* is too {word}: it is version 0.1.0")

    def test_what_is_no_libpgaad_is_named(self):
        done = python(self.PROGRAM, PGAAD_LIBRARY="libc.so.6")
        self.assertRegex(done.stdout, "^LibraryError True pgaad: libc.so.6.* is no libpgaad")


if __name__ == "__main__":
    unittest.main()

"""Where the tests run: a token service and a PostgreSQL that trusts it, as the environment says; other programs.

emulator run -- env PGAAD_LIBRARY=... PYTHONPATH=bindings/python python3 -m unittest discover bindings/python/tests
"""

import json
import os
import subprocess
import sys
import traceback
import urllib.request

WHO = "select current_user || ' ' || ssl::text from pg_stat_ssl where pid = pg_backend_pid()"
LAPTOP = {
    "user": os.environ.get("LAPTOP_ROLE", "laptop"),
    "password": os.environ.get("LAPTOP_PASSWORD", "it's a \\ secret"),
}
APP_TWO = "aaaaaaaa-0000-0000-0000-000000000002"
SECRET = os.environ["PGAAD_CLIENT_SECRET"]


def control(method, path, body=None):
    """Tells the emulator something; what it says is JSON or text."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(os.environ["EMULATOR_CONTROL"] + path, data, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read().decode()
    return json.loads(text) if text[:1] in "[{" else text


def tokens():
    """How many were issued."""
    return control("GET", "/counters")["tokens"]


def logins():
    """The role and the token's id of each login."""
    return [(bind["role"], bind["uti"]) for bind in control("GET", "/binds")]


class Held:
    """Holds the next request to the token service, until the end of the ``with``."""

    arrived = 0  # at the gate, in all

    def __enter__(self):
        control("POST", "/gate/close")
        control("POST", "/faults", {"kind": "gate"})
        Held.arrived += 1
        return self

    def wait(self):
        """Blocks until it is there."""
        control("GET", f"/gate/{Held.arrived}")

    def let_go(self):
        control("POST", "/gate/open")

    def __exit__(self, *error):
        control("DELETE", "/faults")
        self.let_go()


def raised(call):
    """What a call raises, with its traceback, which assertRaises takes away."""
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def shown(error):
    """All that a traceback can show of an exception: variables too, in our files."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__)) + repr(error)
    assert error.__traceback__ is not None
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if os.sep + "pgaad" + os.sep in frame.f_code.co_filename:
                text += repr(frame.f_locals)
        error = error.__cause__ or error.__context__
    return text


def python(program, **env):
    """Runs a program of its own."""
    changed = {**os.environ, **env}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=changed, capture_output=True, text=True, timeout=120)

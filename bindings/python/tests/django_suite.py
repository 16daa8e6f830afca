"""Settings for Django's own test-suite, and a runner that writes down how each test ended.

    ENGINE=pgaad.django NAME=ours OUTCOMES=ours.json runtests.py --settings django_suite backends ...

ENGINE is ours, or Django's own, which is given a token as its password. Both sign in as the same role, with the same
options, to databases by a NAME of their own.
"""

import json
import os
import unittest
import urllib.request

from django.test.runner import DiscoverRunner

ENGINE = os.environ["ENGINE"]


def a_token():
    url = f"{os.environ['EMULATOR_CONTROL']}/token/{os.environ['PGAAD_CLIENT_ID']}"
    with urllib.request.urlopen(url) as answer:
        return answer.read().decode()


def database(name):
    settings = {
        "ENGINE": ENGINE,
        "NAME": name,
        "USER": os.environ["PGUSER"],
        "HOST": "localhost",
        "PORT": os.environ["PGPORT"],
        "OPTIONS": {"sslmode": "verify-full", "sslrootcert": os.environ["PGSSLROOTCERT"]},
    }
    if ENGINE == "django.db.backends.postgresql":
        return {**settings, "PASSWORD": a_token()}
    return {**settings, "AAD_OPTIONS": {"auth": "client_secret"}}


DATABASES = {"default": database(os.environ["NAME"]), "other": database(os.environ["NAME"] + "_other")}
SECRET_KEY = "a secret of no use"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = False
TEST_RUNNER = "django_suite.Runner"


class Result(unittest.TextTestResult):
    """How each test ended, by its name; a test with failed subtests failed."""

    outcomes: dict = {}

    def note(self, test, outcome):
        self.outcomes.setdefault(test.id(), outcome)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.note(test, "passed")

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.note(test, "failed")

    def addError(self, test, error):
        super().addError(test, error)
        self.note(test, "failed")

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.note(test, "failed")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.note(test, "skipped")

    def addExpectedFailure(self, test, error):
        super().addExpectedFailure(test, error)
        self.note(test, "failed as expected")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.note(test, "passed unexpectedly")


class Runner(DiscoverRunner):
    def get_resultclass(self):
        return Result

    def suite_result(self, suite, result, **kwargs):
        with open(os.environ["OUTCOMES"], "w") as out:
            json.dump(Result.outcomes, out)
        return super().suite_result(suite, result, **kwargs)

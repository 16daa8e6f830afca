"""``manage.py dbshell``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import client

from .._conninfo import write

# What Django wants of its own connections.
_NOT_FOR_PSQL = {"client_encoding", "password"}


class DatabaseClient(client.DatabaseClient):
    """Runs psql with what a connection of this database would have: the token in ``PGPASSWORD``, as Django does with
    passwords and never on the command line, the rest as a connection string there."""

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Iterable[str]
    ) -> tuple[list[str], dict[str, str] | None]:
        if settings_dict.get("AAD_OPTIONS") is None:
            return super().settings_to_cmd_args_env(settings_dict, parameters)
        from .base import DatabaseWrapper, driver

        options = dict(settings_dict["OPTIONS"])
        name = settings_dict["NAME"] or (None if not options.get("service") else "")
        wrapper = DatabaseWrapper({**settings_dict, "OPTIONS": options, "NAME": name}, alias=NO_DB_ALIAS)
        with wrapper.wrap_database_errors:
            found = wrapper.get_connection_params()
        told = {key: str(value) for key, value in found.items() if key not in driver.OWN | _NOT_FOR_PSQL}
        args = [cls.executable_name, *parameters, write(told)]
        return args, {"PGPASSWORD": str(found["password"])} if found.get("password") else None

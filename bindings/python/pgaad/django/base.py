"""Django's engine for PostgreSQL, but for the password of new connections."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import is_psycopg3

from .._client import Client
from .._errors import ConfigError
from .client import DatabaseClient
from .options import client_for

if is_psycopg3:
    from .. import psycopg as driver
else:
    from .. import psycopg2 as driver  # type: ignore[no-redef]

__all__ = ["DatabaseWrapper", "driver"]


def _parameters(client: Client, keywords: dict[str, Any]) -> dict[str, Any]:
    """These parameters with a token, where Entra is on for the server."""
    try:
        return driver.parameters(client, **keywords)
    except driver.OperationalError as error:
        if isinstance(error.__cause__, ConfigError):
            raise ImproperlyConfigured(str(error)) from error.__cause__
        raise  # Django makes its own OperationalError of it


class _Tokens:
    """Stands in a pool for the class of its connections: gives each one a token of its own."""

    def __init__(self, client: Client, connection_class: Any) -> None:
        self.client = client
        self.connection_class = connection_class
        self.failure: Exception | None = None

    def connect(self, conninfo: str = "", **keywords: Any) -> Any:
        try:
            connection = self.connection_class.connect(**driver.parameters(self.client, conninfo, **keywords))
        except Exception as failure:
            self.failure = failure
            raise
        self.failure = None
        return connection


class DatabaseWrapper(base.DatabaseWrapper):
    """A database of ``DATABASES``; with ``AAD_OPTIONS``, each new connection carries a token of this identity."""

    client_class = DatabaseClient

    @property
    def aad_client(self) -> Client | None:
        """The identity that signs in here; None: there is no ``AAD_OPTIONS``, and passwords are ordinary."""
        if self.settings_dict.get("AAD_OPTIONS") is None:
            return None
        return client_for(self.settings_dict, self.alias)

    @property
    def pool(self) -> Any:
        pool = super().pool
        # Nobody has opened it yet, as that is done after this, so no connection was made without a token.
        if pool is not None and not isinstance(pool.connection_class, _Tokens) and (client := self.aad_client):
            pool.connection_class = _Tokens(client, pool.connection_class)
        return pool

    def get_connection_params(self) -> dict[str, Any]:
        """Django's parameters, with a token as password and what keeps it safe. With a pool they have none: the pool
        asks for one at each new connection."""
        params: dict[str, Any] = super().get_connection_params()
        pooled = self.alias != NO_DB_ALIAS and self.settings_dict["OPTIONS"].get("pool")
        if pooled or (client := self.aad_client) is None:
            return params
        return _parameters(client, params)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        try:
            return super().get_new_connection(conn_params)
        except self.Database.OperationalError as error:
            maker = getattr(self.pool, "connection_class", None)
            if isinstance(maker, _Tokens) and maker.failure is not None and type(error).__name__ == "PoolTimeout":
                # Why the pool has no connection is in its log only; here it is what matters.
                raise type(error)(f"{error}: {maker.failure}") from maker.failure
            raise

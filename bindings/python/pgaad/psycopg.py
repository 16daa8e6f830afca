"""For psycopg 3: connections that carry a fresh token each.

    import pgaad.psycopg
    from psycopg_pool import ConnectionPool

    connection = pgaad.psycopg.connect("host=myserver.postgres.database.azure.com dbname=app user=app")
    pool = ConnectionPool("host=... dbname=app user=app", connection_class=pgaad.psycopg.Connection)

``client=`` (in a pool: ``kwargs={"client": client}``) names another client than the default one. A failure of pgaad's
is an :class:`OperationalError` of psycopg's, with :attr:`~OperationalError.status` and the :class:`pgaad.Error` as
its ``__cause__``.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import Row

from ._client import Client, default_client
from ._errors import Error, LibraryError

if TYPE_CHECKING:
    from typing_extensions import Self

# What connect takes that is psycopg's own; the rest is for libpq.
OWN = {
    name
    for name, parameter in inspect.signature(psycopg.Connection.connect).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
}


class OperationalError(psycopg.OperationalError):
    """pgaad could not give a token, or did not where it may not go. Its ``__cause__`` is the :class:`pgaad.Error`."""

    status: int = -1
    status_name: str = "PGAAD_UNKNOWN"


def parameters(client: Client | None = None, conninfo: str = "", **keywords: Any) -> dict[str, Any]:
    """The keywords to connect with instead of these: psycopg's own as they are, those for libpq with a token."""
    own = {name: keywords[name] for name in OWN & keywords.keys()}
    options = {name: value for name, value in keywords.items() if name not in own}
    keywords.clear()
    try:
        return {**own, **(client or default_client()).parameters(conninfo, **options)}
    except LibraryError:
        raise
    except Error as error:
        failure = OperationalError(str(error))
        failure.status, failure.status_name = error.status, error.status_name
        raise failure from error
    finally:
        options.clear()  # a traceback that shows variables is not to show secrets


class Connection(psycopg.Connection[Row]):
    """A connection whose :meth:`connect` asks for a token. For ``psycopg_pool``'s ``connection_class``: each new
    connection of a pool has a token of its own."""

    @classmethod
    def connect(  # type: ignore[override]
        cls, conninfo: str = "", *, client: Client | None = None, **keywords: Any
    ) -> Self:
        """``psycopg.Connection.connect`` with a token where Entra is on for this server."""
        keywords = parameters(client, conninfo, **keywords)
        return super().connect(**keywords)


class AsyncConnection(psycopg.AsyncConnection[Row]):
    """The same for asyncio. The loop never waits for a token: a thread does."""

    @classmethod
    async def connect(  # type: ignore[override]
        cls, conninfo: str = "", *, client: Client | None = None, **keywords: Any
    ) -> Self:
        """``psycopg.AsyncConnection.connect`` with a token where Entra is on for this server."""
        keywords = await asyncio.to_thread(parameters, client, conninfo, **keywords)
        return await super().connect(**keywords)


connect = Connection.connect

"""For psycopg2: connections that carry a fresh token each.

    import pgaad.psycopg2
    from psycopg2.pool import ThreadedConnectionPool

    connection = pgaad.psycopg2.connect("host=myserver.postgres.database.azure.com dbname=app user=app")
    pool = ThreadedConnectionPool(1, 10, "host=... dbname=app user=app", connection_factory=pgaad.psycopg2.Connection)

A failure of pgaad's is an :class:`OperationalError` of psycopg2's, with :attr:`~OperationalError.status` and the
:class:`pgaad.Error` as its ``__cause__``.
"""

from __future__ import annotations

from typing import Any

import psycopg2
import psycopg2.extensions

from ._client import Client, default_client
from ._errors import Error, LibraryError

# What connect takes that is psycopg2's own; the rest is for libpq.
OWN = {"connection_factory", "cursor_factory", "async", "async_"}


class OperationalError(psycopg2.OperationalError):
    """pgaad could not give a token, or did not where it may not go. Its ``__cause__`` is the :class:`pgaad.Error`."""

    status: int = -1
    status_name: str = "PGAAD_UNKNOWN"


def _failure(error: Error) -> OperationalError:
    failure = OperationalError(str(error))
    failure.status, failure.status_name = error.status, error.status_name
    return failure


def parameters(client: Client | None = None, dsn: str = "", **keywords: Any) -> dict[str, Any]:
    """The keywords to connect with instead of these: psycopg2's own as they are, those for libpq with a token."""
    own = {name: keywords[name] for name in OWN & keywords.keys()}
    options = {name: value for name, value in keywords.items() if name not in own}
    keywords.clear()
    if "database" in options:
        options["dbname"] = options.pop("database")
    try:
        return {**own, **(client or default_client()).parameters(dsn, **options)}
    except LibraryError:
        raise
    except Error as error:
        raise _failure(error) from error
    finally:
        options.clear()  # a traceback that shows variables is not to show secrets


class Connection(psycopg2.extensions.connection):
    """A connection that asks for a token as it is made, for ``connection_factory``: each new connection of a pool has
    a token of its own. A subclass may name another client than the default one: ``client = pgaad.Client(...)``."""

    client: Client | None = None

    def __init__(self, dsn: str, *more: Any, **keywords: Any) -> None:
        try:
            dsn = (self.client or default_client()).connstring(dsn)
        except LibraryError:
            raise
        except Error as error:
            raise _failure(error) from error
        super().__init__(dsn, *more, **keywords)


def connect(dsn: str | None = None, *, client: Client | None = None, **keywords: Any) -> Any:
    """``psycopg2.connect`` with a token where Entra is on for this server. It returns what that does: a
    ``psycopg2.extensions.connection``, or what ``connection_factory`` makes."""
    keywords = parameters(client, dsn or "", **keywords)
    return psycopg2.connect("", **keywords)

"""Signs Python programs in to Azure Database for PostgreSQL with Microsoft Entra ID.

    import pgaad
    import pgaad.psycopg

    connection = pgaad.psycopg.connect("host=myserver.postgres.database.azure.com dbname=app user=app")

The functions here use the default client: its settings are the environment's (``PGAAD_*`` and their aliases).
:class:`Client` makes others. All of it may be called from any thread, at the same time, and in a child after ``fork``.
Calls wait for the token service at times (never longer than the setting ``timeout_ms``), and let other threads run
meanwhile; in a coroutine, use the helpers for its driver, or ``asyncio.to_thread``.

The helpers are modules of their own, each imported where its driver is: ``pgaad.psycopg``, ``pgaad.psycopg2``,
``pgaad.asyncpg``, ``pgaad.sqlalchemy``, ``pgaad.django``.
"""

from ._client import (
    Answer,
    Client,
    Secret,
    Token,
    TokenCallback,
    connstring,
    default_client,
    invalidate,
    parameters,
    stats,
    token,
    user,
)
from ._conninfo import Setting
from ._errors import (
    ConfigError,
    Denied,
    Disabled,
    Error,
    Insecure,
    InternalError,
    InvalidArgument,
    LibpqError,
    LibraryError,
    NetworkError,
    ProtocolError,
    Throttled,
    TimeoutError,
    Unavailable,
)
from ._library import version

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "Client",
    "ConfigError",
    "Denied",
    "Disabled",
    "Error",
    "Insecure",
    "InternalError",
    "InvalidArgument",
    "LibpqError",
    "LibraryError",
    "NetworkError",
    "ProtocolError",
    "Secret",
    "Setting",
    "Throttled",
    "TimeoutError",
    "Token",
    "TokenCallback",
    "Unavailable",
    "connstring",
    "default_client",
    "invalidate",
    "parameters",
    "stats",
    "token",
    "user",
    "version",
]

"""For SQLAlchemy: each connection that an engine opens carries a fresh token.

    import pgaad.sqlalchemy
    from sqlalchemy import create_engine

    engine = create_engine("postgresql+psycopg://app@myserver.postgres.database.azure.com/app")
    pgaad.sqlalchemy.listen(engine)

With psycopg, psycopg2 and asyncpg, and engines of ``create_async_engine`` as well.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from ._client import Client
from ._errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine  # which a program without async cannot import


def listen(engine: Engine | AsyncEngine, client: Client | None = None) -> None:
    """Makes this engine's connections carry a token where Entra is on for the server.

    A failure of pgaad's with psycopg or psycopg2 is SQLAlchemy's ``OperationalError``, whose ``__cause__`` is the
    driver's, whose ``__cause__`` is the :class:`pgaad.Error`; with asyncpg it is that itself.

    :param client: another one than the default client.
    """
    sync = getattr(engine, "sync_engine", engine)

    @event.listens_for(sync, "do_connect")
    def connect(dialect: Any, record: Any, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        creator: Any
        if dialect.driver == "psycopg2":
            from . import psycopg2

            return psycopg2.connect(*arguments, client=client, **keywords)
        if dialect.driver == "asyncpg":
            from . import asyncpg

            creator = partial(asyncpg.connect, client=client)
        elif dialect.driver.startswith("psycopg"):
            from . import psycopg

            if not dialect.is_async:
                return psycopg.connect(*arguments, client=client, **keywords)
            creator = partial(psycopg.AsyncConnection.connect, client=client)
        else:
            raise ConfigError(f"pgaad: SQLAlchemy's driver {dialect.driver} is none of psycopg, psycopg2 and asyncpg.")
        keywords.setdefault("async_creator_fn", creator)
        return None

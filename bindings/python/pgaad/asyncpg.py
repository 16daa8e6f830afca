"""For asyncpg: connections that carry a fresh token each, over TLS verified as libpq would.

    import pgaad.asyncpg

    connection = await pgaad.asyncpg.connect(host="myserver.postgres.database.azure.com", user="app", database="app")
    pool = await pgaad.asyncpg.create_pool(host="...", user="app", database="app")

``client=`` names another client than the default one. asyncpg isn't built on libpq: where the token may go is judged
by the same rules, and the options that it would leave out (``requirepeer``, ``hostaddr``) are refused. A failure of
pgaad's is a :class:`pgaad.Error`; that of the network is a ``ConnectionError`` as well, and a deadline that passed a
``TimeoutError``, as asyncpg's own are. The loop never waits for a token: a thread does.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from ._client import Client, default_client
from ._errors import ConfigError, Insecure

# Of libpq's options, those that asyncpg takes as keywords, by its own names.
_NAMES = {"host": "host", "port": "port", "user": "user", "password": "password", "dbname": "database"}
_NAMES.update({name: name for name in ("passfile", "service", "servicefile", "target_session_attrs", "krbsrvname")})

# Those that say nothing to asyncpg, or what it does anyway.
_IDLE = {
    "channel_binding",
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "sslcompression",
    "sslnegotiation",
    "sslsni",
    "tcp_user_timeout",
}

# What asyncpg's keywords are as libpq's options; the rest is asyncpg's own.
_OPTIONS = {name: option for option, name in _NAMES.items()}


async def connect(dsn: str | None = None, *, client: Client | None = None, **keywords: Any) -> Any:
    """``asyncpg.connect`` with a token where Entra is on for this server. It returns what that does.

    Where a token is used, ``ssl`` may be a context that verifies the server and its name; without one, there is one
    with the roots that libpq would use.
    """
    keywords = await asyncio.to_thread(arguments, client, dsn, **keywords)
    return await asyncpg.connect(**keywords)


def create_pool(dsn: str | None = None, *, client: Client | None = None, **keywords: Any) -> Any:
    """``asyncpg.create_pool``, with a fresh token for each new connection. It takes asyncpg 0.30 or later."""
    return asyncpg.create_pool(dsn, connect=functools.partial(connect, client=client), **keywords)


def arguments(client: Client | None = None, dsn: str | None = None, **keywords: Any) -> dict[str, Any]:
    """The keywords for ``asyncpg.connect`` instead of these. This may wait for a token."""
    own = {name: value for name, value in keywords.items() if name not in _OPTIONS}
    options = {_OPTIONS[name]: value for name, value in keywords.items() if name in _OPTIONS}
    password = options.get("password")
    if callable(password):
        raise ConfigError("pgaad: A function cannot be the password where pgaad gives it: leave it out.")
    context = own.pop("ssl", None)
    if isinstance(context, bool):
        context = "verify-full" if context else "disable"
    if isinstance(context, str):
        options["sslmode"], context = context, None
    found = (client or default_client()).parameters(dsn or "", **options)

    if "sslmode" in found or any(name.startswith("ssl") and name not in _IDLE for name in found):
        own["ssl"] = _ssl(found, context)
    elif context is not None:
        own["ssl"] = context
    address, host = found.pop("hostaddr", ""), found.get("host", "")
    if address and address != host:
        if host:
            raise ConfigError("pgaad: asyncpg cannot use hostaddr beside host: leave one of them out.")
        found["host"] = address
    if found.pop("requirepeer", ""):
        raise Insecure("pgaad: asyncpg cannot check requirepeer, so it does not get the token on this socket.")
    if timeout := int(found.pop("connect_timeout", "0")):
        own.setdefault("timeout", timeout)
    settings = {}
    for name, value in found.items():
        if name in _NAMES:
            own[_NAMES[name]] = value.split(",") if name in ("host", "port") and "," in value else value
        elif name not in _IDLE and value:
            settings[name] = value  # as asyncpg does with what it doesn't know
    if "port" in own:
        port = own["port"]
        own["port"] = [int(one) for one in port] if isinstance(port, list) else int(port)
    if own.get("password"):
        own["password"] = functools.partial(str, own["password"])  # asyncpg wants a str that is nothing more
    if settings:
        own["server_settings"] = {**settings, **(own.get("server_settings") or {})}
    return own


def _ssl(found: dict[str, str], context: ssl.SSLContext | None) -> str | ssl.SSLContext:
    """The TLS that these options, which are taken away, mean."""
    options = {name: found.pop(name) for name in list(found) if name.startswith("ssl") and name not in _IDLE}
    mode = options.pop("sslmode", "prefer")
    verifies = mode in ("verify-ca", "verify-full")
    if context is not None:
        if verifies and not (context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname):
            raise Insecure("pgaad: The token goes out only where the context verifies the server and its name.")
        return context
    if not verifies:
        return mode
    roots = options.pop("sslrootcert", "")
    context = ssl.create_default_context(cafile=None if roots in ("", "system") else roots)
    context.check_hostname = mode == "verify-full"
    if certificate := options.pop("sslcert", ""):
        password = options.pop("sslpassword", None)
        context.load_cert_chain(certificate, options.pop("sslkey", None), password)
    if lists := options.pop("sslcrl", ""):
        context.load_verify_locations(lists)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    if version := options.pop("ssl_min_protocol_version", ""):
        context.minimum_version = ssl.TLSVersion[version.replace(".", "_").replace("TLSv1_0", "TLSv1")]
    if left := [name for name, value in options.items() if value]:
        raise ConfigError(f"pgaad: asyncpg does not know {left[0]}: leave it out, or give an ssl context.")
    return context

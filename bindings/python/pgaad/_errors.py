"""What can go wrong: one class for each status of the library, under one base class."""

from __future__ import annotations

import builtins


class Error(Exception):
    """The base of them all. Its text is the library's message: one line that says what to do, and never a secret."""

    status: int = -1
    """The number that the library gave, as in ``pgaad.h``."""

    status_name: str = "PGAAD_UNKNOWN"
    """Its name, such as ``"PGAAD_DENIED"``."""


class InvalidArgument(Error, ValueError):
    """Text that is not UTF-8 or holds a NUL, a client that is closed, a callback that calls its own client."""

    status = 1
    status_name = "PGAAD_INVALID_ARGUMENT"


class ConfigError(Error, ValueError):
    """A setting is missing, malformed or contradicts another one; the message names it."""

    status = 2
    status_name = "PGAAD_CONFIG"


class Disabled(Error):
    """A token was asked for, but ``auth=off``."""

    status = 3
    status_name = "PGAAD_DISABLED"


class Unavailable(Error):
    """No credential source is here: not on Azure, az not logged in, and the like."""

    status = 4
    status_name = "PGAAD_UNAVAILABLE"


class Denied(Error):
    """Entra answered, and said no (AADSTS...): retrying will not help."""

    status = 5
    status_name = "PGAAD_DENIED"


class Throttled(Error):
    """Told to come back later; the message says when."""

    status = 6
    status_name = "PGAAD_THROTTLED"


class NetworkError(Error, ConnectionError):
    """No connection to the token service, or its 5xx, all tries used."""

    status = 7
    status_name = "PGAAD_NETWORK"


class TimeoutError(Error, builtins.TimeoutError):
    """The deadline passed; or no token was there, and the call was not to wait."""

    status = 8
    status_name = "PGAAD_TIMEOUT"


class ProtocolError(Error):
    """An answer that is no token answer."""

    status = 9
    status_name = "PGAAD_PROTOCOL"


class Insecure(Error):
    """The token would have gone out without TLS or to a stranger: refused."""

    status = 10
    status_name = "PGAAD_INSECURE"


class LibpqError(Error):
    """libpq could not be found in this process or loaded."""

    status = 11
    status_name = "PGAAD_LIBPQ"


class InternalError(Error):
    """A bug in pgaad."""

    status = 12
    status_name = "PGAAD_INTERNAL"


class LibraryError(Error, ImportError):
    """The library ``libpgaad.so.0`` could not be loaded, or is of a version that this package does not know."""


BY_STATUS: dict[int, type[Error]] = {
    error.status: error for error in Error.__subclasses__() if error is not LibraryError
}


def of(status: int, message: str) -> Error:
    """The exception for a status; one that this package does not know is a plain :class:`Error` with that number."""
    error = BY_STATUS.get(status, Error)(message)
    error.status = status
    return error

"""Finds libpgaad, loads it, and tells ctypes about its functions. As ctypes does, they let other threads run."""

from __future__ import annotations

import ctypes
import functools
import os
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int32, c_int64, c_void_p
from pathlib import Path

from ._errors import LibraryError

SONAME = "libpgaad.so.0"

# The oldest version that has all we call; and the first that may have reshaped it.
MINIMUM, LIMIT = 100, 10000

TokenFn = CFUNCTYPE(None, c_void_p, c_char_p, c_int, c_void_p)
ReleaseFn = CFUNCTYPE(None, c_void_p)

_OUT = POINTER(c_void_p)
_PROTOTYPES: dict[str, tuple[object, list[object]]] = {
    "pgaad_version": (c_char_p, []),
    "pgaad_free": (None, [c_void_p]),
    "pgaad_client_new": (c_int32, [c_char_p, _OUT, _OUT]),
    "pgaad_client_new_callback": (c_int32, [c_char_p, TokenFn, c_void_p, ReleaseFn, _OUT, _OUT]),
    "pgaad_client_default": (c_int32, [_OUT, _OUT]),
    "pgaad_client_free": (None, [c_void_p]),
    "pgaad_client_get_token": (c_int32, [c_void_p, c_int, _OUT, POINTER(c_int64), _OUT]),
    "pgaad_client_get_user": (c_int32, [c_void_p, _OUT, _OUT]),
    "pgaad_client_connstring": (c_int32, [c_void_p, c_char_p, _OUT, _OUT]),
    "pgaad_client_invalidate": (c_int32, [c_void_p, _OUT]),
    "pgaad_client_stats": (c_int32, [c_void_p, _OUT, _OUT]),
    "pgaad_answer_token": (None, [c_void_p, c_char_p, c_int64]),
    "pgaad_answer_error": (None, [c_void_p, c_int32, c_char_p]),
}


def _path() -> tuple[str, str]:
    """Where the library is, and who says so: ``PGAAD_LIBRARY``, this package's wheel, the system's loader."""
    if named := os.environ.get("PGAAD_LIBRARY"):
        return named, "named by PGAAD_LIBRARY"
    packaged = Path(__file__).with_name(SONAME)
    if packaged.exists():
        return str(packaged), "of the package pgaad"
    return SONAME, "of this system"


@functools.cache
def library() -> ctypes.CDLL:
    """The library, loaded at first use. A failure is not remembered."""
    path, whose = _path()
    try:
        loaded = ctypes.CDLL(path)
    except OSError as error:
        raise LibraryError(
            f"pgaad: The library {SONAME} {whose} cannot be loaded: {error}. Install a wheel of pgaad that holds "
            "it, or the library itself, or set PGAAD_LIBRARY to its path.",
            name="pgaad",
            path=path,
        ) from error
    try:
        number = int(loaded.pgaad_version_number())
        for name, (result, arguments) in _PROTOTYPES.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as error:
        raise LibraryError(
            f"pgaad: {path}, {whose}, is no libpgaad or too old a one: {error}.", name="pgaad", path=path
        ) from error
    if not MINIMUM <= number < LIMIT:
        raise LibraryError(
            f"pgaad: The library {path}, {whose}, is too {'old' if number < MINIMUM else 'new'}: it is version "
            f"{_dotted(number)}, and this package needs {_dotted(MINIMUM)} or later, before {_dotted(LIMIT)}.",
            name="pgaad",
            path=path,
        )
    return loaded


def version() -> str:
    """The library's version, such as ``"1.2.3"``."""
    text: bytes = library().pgaad_version()
    return text.decode()


def _dotted(number: int) -> str:
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"

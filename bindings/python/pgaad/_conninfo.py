"""Strings with the grammar of a conninfo: ``key='value' key='value'``, and URIs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Union
from urllib.parse import quote

from ._errors import InvalidArgument

Setting = Union[str, int, bool, "os.PathLike[str]", Iterable[str], None]
"""What a setting or an option may be: a list is joined by commas, None is left out."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_PAIR = re.compile(r"\s*([^\s=]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s\\]|\\.)*))\s*", re.DOTALL)
_URI = ("postgresql://", "postgres://")


def text(value: Setting) -> str:
    """A value as the library reads it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Iterable):
        return ",".join(str(part) for part in value)
    return str(value)


def join(conninfo: str, options: Mapping[str, Setting]) -> str:
    """The string with these options, which count for more than what it says itself."""
    for name in options:
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"pgaad: {name!r} cannot be the name of an option.")
    given = {name: text(value) for name, value in options.items() if value is not None}
    if not given:
        return conninfo
    if conninfo.startswith(_URI):
        more = "&".join(f"{name}={quote(value, safe='', errors='surrogateescape')}" for name, value in given.items())
        return conninfo + ("&" if "?" in conninfo else "?") + more
    return f"{conninfo} {write(given)}" if conninfo else write(given)


def write(options: Mapping[str, str]) -> str:
    quoted = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in options.items()}
    return " ".join(f"{name}='{value}'" for name, value in quoted.items())


def parse(conninfo: str) -> dict[str, str]:
    """The options of a key=value string that the library wrote."""
    options, at = {}, 0
    while at < len(conninfo):
        pair = _PAIR.match(conninfo, at)
        if pair is None or pair.end() == at:
            raise InvalidArgument("pgaad: a connection string that cannot be read")
        name, quoted, plain = pair.groups()
        options[name] = re.sub(r"\\(.)", r"\1", plain if quoted is None else quoted, flags=re.DOTALL)
        at = pair.end()
    return options

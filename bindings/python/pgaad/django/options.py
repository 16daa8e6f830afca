"""What stands in ``AAD_OPTIONS``, and the clients for it."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from .._client import Client, Secret
from .._conninfo import join
from .._errors import Error

# The original's keys, and what pgaad calls them.
_ORIGINAL = {
    "SP_CLIENT_ID": "client_id",
    "SP_CLIENT_SECRET": "client_secret",
    "SP_TENANT_ID": "tenant_id",
    "REFRESH_BEFORE_MINUTES": "refresh_before_minutes",
}

# What makes each of the original's required keys unnecessary.
_INSTEAD = {
    "SP_CLIENT_ID": {"client_id"},
    "SP_CLIENT_SECRET": {
        "client_secret",
        "client_secret_file",
        "client_certificate_path",
        "federated_token_file",
    },
    "SP_TENANT_ID": {"tenant_id"},
}

_clients: dict[Secret, Client] = {}


def settings_of(options: Mapping[str, Any], whose: str) -> Secret:
    """The settings string that says what these options say."""
    if not isinstance(options, Mapping):
        raise ImproperlyConfigured(f"AAD_OPTIONS of {whose} has to be a dictionary.")
    given = {str(key).strip("`"): value for key, value in options.items()}  # as printed in the original's README
    if any(key.startswith("SP_") for key in given):
        for key, instead in _INSTEAD.items():
            if given.get(key) in (None, "") and not instead & given.keys():
                raise ImproperlyConfigured(f"AAD_OPTIONS of {whose} lacks {key}.")
    for key in given:
        if key.isupper() and key not in _ORIGINAL:
            meant = "".join(f"; did you mean {near}?" for near in get_close_matches(key, _ORIGINAL, 1))
            raise ImproperlyConfigured(f"AAD_OPTIONS of {whose} has an unknown key {key}{meant}")
    settings = {_ORIGINAL.get(key, key): value for key, value in given.items()}
    try:
        return Secret(join("", dict(sorted(settings.items()))))
    except Error as error:
        raise ImproperlyConfigured(f"AAD_OPTIONS of {whose}: {error}") from error


def client_for(settings_dict: Mapping[str, Any], alias: str) -> Client:
    """The client for a database's settings: the same for all that say the same, in all threads."""
    whose = f"the database {alias!r}"
    settings = settings_of(settings_dict["AAD_OPTIONS"], whose)
    if settings not in _clients:
        try:
            _clients.setdefault(settings, Client(settings))  # of two threads one wins; a lock could be lost in a fork
        except Error as error:
            raise ImproperlyConfigured(f"AAD_OPTIONS of {whose}: {error}") from error
    return _clients[settings]

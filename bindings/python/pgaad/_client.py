"""Clients: an identity each, with its settings and its tokens."""

from __future__ import annotations

import atexit
import ctypes
import json
import math
import os
import threading
import weakref
from collections.abc import Callable
from ctypes import byref, c_int64, c_void_p
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Union

from . import _conninfo, _errors
from ._conninfo import Setting
from ._errors import Error, InvalidArgument
from ._library import ReleaseFn, TokenFn, library


class Secret(str):
    """A string that holds a secret: its ``repr`` does not show it. Where a program shows it itself, it is shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} characters>"


class Token(Secret):
    """An access token: a string, to be used as password."""

    __slots__ = ("expires_on",)

    expires_on: int
    """Until when it is good, in Unix seconds (UTC)."""

    def __new__(cls, token: str, expires_on: int) -> Token:
        self = super().__new__(cls, token)
        self.expires_on = expires_on
        return self

    def __reduce__(self) -> tuple[type[Token], tuple[str, int]]:
        return Token, (str(self), self.expires_on)


class Answer(NamedTuple):
    """What a token callback may return: a token, and until when it is good in Unix seconds (0: as the token says)."""

    token: str
    expires_on: int = 0


class HasToken(Protocol):
    """The tokens of ``azure.identity``, and whatever else has these two."""

    @property
    def token(self) -> str: ...

    @property
    def expires_on(self) -> int: ...


TokenCallback = Callable[[str, float], Union[str, HasToken]]
"""Gets a token for a client from wherever the program has tokens: called with what the token is for (a scope) and the
time in seconds that the caller has left. Any exception becomes the call's error, with itself as its ``__cause__``."""


def _out() -> Any:
    return c_void_p()


def _take(string: Any) -> str:
    """The text of a string that the library handed out, which it gets back."""
    if not string.value:
        return ""
    try:
        return ctypes.string_at(string.value).decode("utf-8", "surrogateescape")
    finally:
        library().pgaad_free(string)


def _bytes(value: str) -> bytes:
    if "\0" in value:
        raise InvalidArgument("pgaad: A NUL stands in the text.")
    return value.encode("utf-8", "surrogateescape")


class _Callback:
    """A program's function, as the library calls it. It lives until the library has let go of it."""

    # Those that the library holds: ctypes would let them go with their client.
    held: set[_Callback] = set()

    def __init__(self, function: TokenCallback) -> None:
        self.function = function
        self.raised: tuple[str, BaseException, int] | None = None  # what it said, and on which thread
        self.released = threading.Event()
        self.process = os.getpid()
        self.fetch = TokenFn(self._fetch)
        self.release = ReleaseFn(self._release)

    def _fetch(self, _userdata: object, scope: bytes, timeout_ms: int, answer: int) -> None:
        try:
            got = self.function(scope.decode(), timeout_ms / 1000)
            token, expires_on = (got, 0) if isinstance(got, str) else (got.token, int(got.expires_on))
            encoded = _bytes(token)
        except BaseException as raised:  # nothing may unwind through the library
            status, said = _blame(raised)
            self.raised = (said, raised, threading.get_ident())
            library().pgaad_answer_error(answer, status, said.encode("utf-8", "replace"))
        else:
            self.raised = None
            library().pgaad_answer_token(answer, encoded, expires_on)

    def _release(self, _userdata: object) -> None:
        self.released.set()
        self.held.discard(self)

    def end_call(self, message: str) -> BaseException | None:
        """What was raised, if this message of a call's tells of it, or if it means the program and not the call.
        What was raised on this thread is let go: its traceback knows the call, and that knows the client."""
        if self.raised is None:
            return None
        said, raised, thread = self.raised
        if thread == threading.get_ident():
            self.raised = None
            if not isinstance(raised, Exception):  # KeyboardInterrupt, SystemExit
                raise raised
        return raised if message and said in message else None


def _blame(raised: BaseException) -> tuple[int, str]:
    """The status and the words for an exception of a callback's."""
    lines = " ".join(str(raised).split()).removeprefix("pgaad: ").removesuffix(".")
    said = f"{type(raised).__name__}: {lines}" if lines else type(raised).__name__
    if isinstance(raised, Error):
        return raised.status, said
    if isinstance(raised, TimeoutError):
        return _errors.TimeoutError.status, said
    if isinstance(raised, OSError):
        return _errors.NetworkError.status, said
    return _errors.Unavailable.status, said


class _Handle:
    """A client of the library's: given back when the last call that uses it has ended, as nobody refers to it then."""

    def __init__(self, pointer: int, callback: _Callback | None = None) -> None:
        self.pointer = pointer
        self.callback = callback
        self._free = library().pgaad_client_free

    def __del__(self) -> None:
        self._free(self.pointer)


class Client:
    """One identity with its settings and its tokens. Any number of threads may use one client at the same time.

    ``settings`` is a string with the grammar of a conninfo, and each keyword is a setting as well, which counts for
    more: ``Client(tenant_id=..., client_id=..., client_secret_file="/run/secrets/db")``. The README lists them. What
    they leave out comes from the environment. Nothing is sent yet.

    ``callback`` gets the tokens in place of Entra: see :data:`TokenCallback`. It is called on the thread of a call
    that needs a token, and with ``callback_thread="any"`` also on a thread of the library's. ``azure.identity`` fits:
    ``Client(callback=lambda scope, timeout: credential.get_token(scope))``.

    A client is given back by :meth:`close`, at the end of a ``with``, or when nobody refers to it.

    :raises ConfigError: a setting is unknown, missing, malformed or contradicts another one.
    """

    _handle: _Handle | None = None

    def __init__(self, settings: str = "", *, callback: TokenCallback | None = None, **keywords: Setting) -> None:
        try:
            encoded = Secret(_conninfo.join(settings, keywords))
        finally:
            settings = ""  # a traceback that shows variables is not to show secrets
            keywords.clear()
        lib, pointer, message = library(), _out(), _out()
        if callback is None:
            status = lib.pgaad_client_new(_bytes(encoded), byref(pointer), byref(message))
            held = None
        else:
            held = _Callback(callback)
            held.held.add(held)
            status = lib.pgaad_client_new_callback(
                _bytes(encoded), held.fetch, None, held.release, byref(pointer), byref(message)
            )
            if status:
                held.held.discard(held)
        if status:
            raise _errors.of(status, _take(message))
        self._handle = _Handle(pointer.value, held)
        if held is not None:
            _with_callbacks.add(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<pgaad.Client, closed>" if self._handle is None else f"<pgaad.Client at {id(self):#x}>"

    def close(self) -> None:
        """Gives the client back. Calls that still run on it finish; later ones raise :class:`InvalidArgument`."""
        self._handle = None

    def token(self, timeout: float | None = None) -> Token:
        """A token for the database, from memory while it is fresh, else from Entra or wherever the identity has its
        tokens; of many threads that ask, one fetches.

        :param timeout: how long this call may wait, in seconds; None: the setting ``timeout_ms``; 0: a token that is
            here already, else :class:`TimeoutError`.
        """
        if timeout is not None and not timeout >= 0:
            raise InvalidArgument("pgaad: A timeout cannot be negative.")
        wait = -1 if timeout is None else math.ceil(min(timeout * 1000, 2**31 - 1))
        expires_on = c_int64()
        token = self._call("pgaad_client_get_token", wait, out=True, more=(byref(expires_on),))
        return Token(token, expires_on.value)

    def user(self) -> str:
        """The user that this identity is to the database, as its token says.

        :raises ConfigError: no token of this identity holds a name (those of applications don't): set ``user``.
        """
        return str(self._call("pgaad_client_get_user", out=True))

    def connstring(self, conninfo: str = "", **options: Setting) -> Secret:
        """A conninfo string for libpq: the caller's options, and, where Entra is on for this server, a token as
        password and what keeps it safe (verified TLS, no other host than the one that was judged).

        :param conninfo: ``key=value`` or URI; empty is the environment alone. Options as keywords count for more.
        :raises Insecure: the token may not go there.
        """
        return self._connstring(conninfo, options)

    def parameters(self, conninfo: str = "", **options: Setting) -> dict[str, str]:
        """What :meth:`connstring` writes, as a dictionary, for drivers that take keywords."""
        return self._parameters(conninfo, options)

    def _parameters(self, conninfo: str, options: dict[str, Setting]) -> dict[str, str]:
        found = _conninfo.parse(self._connstring(conninfo, options))
        return {name: Secret(value) if name.endswith("password") else value for name, value in found.items()}

    def _connstring(self, conninfo: str, options: dict[str, Setting]) -> Secret:
        try:
            written = Secret(_conninfo.join(conninfo, options))
        finally:
            conninfo = ""  # as in __init__, and for the callers as well
            options.clear()
        return self._call("pgaad_client_connstring", _bytes(written), out=True)

    def invalidate(self) -> None:
        """Drops the client's tokens, in this process and in a shared cache, so that the next call fetches one. The
        default client also reads its environment anew."""
        self._call("pgaad_client_invalidate")

    def stats(self) -> dict[str, Any]:
        """What the client has, did and failed with, for people and monitors; never a secret. ``pgaad.h`` lists it."""
        read: dict[str, Any] = json.loads(self._call("pgaad_client_stats", out=True))
        return read

    def _call(self, name: str, *arguments: object, out: bool = False, more: tuple[object, ...] = ()) -> Secret:
        handle = self._handle  # keeps it, should another thread close the client meanwhile
        if handle is None:
            raise InvalidArgument("pgaad: The client is closed.")
        result, message = _out(), _out()
        outs = (byref(result), *more) if out else ()
        status = getattr(library(), name)(handle.pointer, *arguments, *outs, byref(message))
        said = _take(message)
        cause = None if handle.callback is None else handle.callback.end_call(said)
        handle, arguments = None, ()  # a traceback may live longer than the client, and show variables
        if status:
            raise _errors.of(status, said) from cause
        return Secret(_take(result))


_with_callbacks: weakref.WeakSet[Client] = weakref.WeakSet()


@atexit.register
def _end_callbacks() -> None:
    # A thread of the library's that called into an interpreter that is gone would end the process badly.
    for client in list(_with_callbacks):
        client.close()
    for callback in list(_Callback.held):
        if callback.process == os.getpid():
            callback.released.wait()


def default_client() -> Client:
    """The client behind the functions that take none, made from the environment at first use. A first use that fails
    is not remembered: set the environment right and call again."""
    pointer, message = _out(), _out()
    status = library().pgaad_client_default(byref(pointer), byref(message))
    if status:
        raise _errors.of(status, _take(message))
    client = Client.__new__(Client)
    client._handle = _Handle(pointer.value)  # giving it back does nothing
    return client


def token(timeout: float | None = None) -> Token:
    """:meth:`Client.token` of the default client."""
    return default_client().token(timeout)


def user() -> str:
    """:meth:`Client.user` of the default client."""
    return default_client().user()


def connstring(conninfo: str = "", **options: Setting) -> Secret:
    """:meth:`Client.connstring` of the default client."""
    return default_client()._connstring(conninfo, options)


def parameters(conninfo: str = "", **options: Setting) -> dict[str, str]:
    """:meth:`Client.parameters` of the default client."""
    return default_client()._parameters(conninfo, options)


def invalidate() -> None:
    """:meth:`Client.invalidate` of the default client."""
    default_client().invalidate()


def stats() -> dict[str, Any]:
    """:meth:`Client.stats` of the default client."""
    return default_client().stats()

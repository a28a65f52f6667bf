"""The HTTP server of the local web app: uvicorn with own limits and signals."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from audioae.errors import OutputError

HEADER_SECONDS = 15.0  # in which the head of a request must arrive
MAX_CONNECTIONS = 1000
MAX_HEAD_BYTES = 2**16


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; port 0 is any free one.

    Raises:
        OutputError: the address is not one of this machine, or the port is in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":  # elsewhere it lets two servers use the same port
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(128)
        except BaseException:
            found.close()
            raise
    except OSError as error:
        raise OutputError(
            f"cannot listen on {host} port {port} ({error.strerror or error}); choose another with "
            "--port"
        ) from error
    return found


class PatientProtocol(H11Protocol):
    """HTTP connections that are closed if the head of a request does not arrive in time."""

    _last: tuple[Any, ...] | None = ()  # the request before the head that is awaited

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch = self.loop.call_later(HEADER_SECONDS, self._check_head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.cancel()
        super().connection_lost(exc)

    def _check_head(self) -> None:
        """Close the connection if it has waited for a head since the last check."""
        waits = self.conn.their_state is h11.IDLE
        if waits and self._last in ((), (self.cycle,)):
            self.transport.close()
            return
        self._last = (self.cycle,) if waits else None
        self._watch = self.loop.call_later(HEADER_SECONDS, self._check_head)


class QuietServer(uvicorn.Server):
    """A server that ends with SIGINT or SIGTERM, without raising them again and without messages
    about the requests that it cuts off.

    Args:
        stop: called when it ends, before it waits for the requests that run.
    """

    def __init__(self, config: uvicorn.Config, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop = stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all requests; see `uvicorn.Server`."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await asyncio.to_thread(self._stop)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals, in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def make_server(app: ASGIApp, *, stop: Callable[[], None]) -> QuietServer:
    """The server of an app; `run(sockets=[...])` serves until a signal or `should_exit`, then calls
    `stop`.
    """
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    return QuietServer(config, stop)

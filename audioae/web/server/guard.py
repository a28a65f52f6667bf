"""Protects the local web app: host names and origins of requests, and headers of
responses.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audioae.errors import AudioaeError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
DRAIN_SECONDS, DRAIN_BYTES = 2.0, 2**24  # of the rest of a body that was refused
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class RefusedError(AudioaeError):
    """A request is refused.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class HostRules:
    """Which host names and origins the server answers to.

    A page of another origin must not be able to use a server on this machine: neither by sending
    requests (`check_origin`), nor by having its own name resolve to 127.0.0.1 (`check_host`).

    Args:
        bound: the address that the server listens on. If that is every address of the machine, IP
            addresses are accepted as names.
        allowed: further names, with a port or without.

    Example:
        >>> rules = HostRules("127.0.0.1", ["audio.example.org"])
        >>> rules.knows("localhost:8000"), rules.knows("audio.example.org"), rules.knows("evil.com")
        (True, True, False)
    """

    def __init__(self, bound: str, allowed: Collection[str] = ()) -> None:
        self._bound = bound
        self._any_address = bound in ("0.0.0.0", "::", "")
        self._allowed = {each.lower() for each in allowed}
        self._names = {*LOOPBACK, bound.lower(), *self._allowed}

    @property
    def is_public(self) -> bool:
        """Whether other machines may reach the server."""
        return not (self._bound == "localhost" or _is_loopback(self._bound))

    def knows(self, host: str) -> bool:
        """Whether a header `Host` has a name of this server."""
        host = host.lower()
        name = _hostname(host)
        if host in self._names or name in self._names:
            return True
        return self._any_address and _is_address(name)

    def check(self, method: str, headers: dict[str, str]) -> None:
        """Check a request.

        Raises:
            RefusedError: it is for another host, or comes from the page of another origin.
        """
        host = headers.get("host", "")
        if not self.knows(host):
            raise RefusedError(
                421,
                f"this server is not called {host!r:.100}; start it with --allow-host if it should "
                "be",
            )
        if method in SAFE_METHODS:
            return
        origin = headers.get("origin")
        if origin is not None:
            place = urlsplit(origin)
            is_own = place.scheme in ("http", "https") and (
                place.netloc.lower() == host.lower() or place.netloc.lower() in self._allowed
            )
            if not is_own:
                raise RefusedError(403, f"requests from pages of {origin!r:.100} are refused")
        elif headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise RefusedError(403, "requests from pages of other sites are refused")


def _hostname(host: str) -> str:
    """The name in a header `Host`, without the port and brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return _is_address(name) and ipaddress.ip_address(name).is_loopback


class GuardMiddleware:
    """Checks hosts and origins, adds headers to responses, and closes connections whose request was
    answered with an error before its body was read.

    Args:
        root_path: prefix of the URLs behind a proxy, which may remove it or not.
    """

    def __init__(self, app: ASGIApp, *, rules: HostRules, root_path: str = "") -> None:
        self.app, self.rules, self.root_path = app, rules, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        body = _Body(
            receive, has_body="content-length" in headers or "transfer-encoding" in headers
        )
        respond = _Responder(send, body)
        try:
            names = [key for key, _ in scope["headers"] if key == b"host"]
            if len(names) != 1:
                raise RefusedError(400, f"the request has {len(names)} headers Host; expected one")
            self.rules.check(scope["method"], headers)
        except RefusedError as error:
            await respond_error(respond.send, error.status, str(error))
            return
        await self.app({**scope, "root_path": self.root_path}, body.receive, respond.send)


async def respond_error(send: Send, status: int, message: str) -> None:
    """Send an error as JSON."""
    content = json.dumps({"error": message}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


class _Body:
    """The body of a request; knows whether it was read to its end."""

    def __init__(self, receive: Receive, *, has_body: bool) -> None:
        self._receive, self.complete = receive, not has_body

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.complete = True
        return message

    async def drain(self) -> None:
        """Read some of the rest, so that the client reads the response before it is cut off."""
        end, left = time.monotonic() + DRAIN_SECONDS, DRAIN_BYTES
        while not self.complete and left > 0 and time.monotonic() < end:
            try:
                message = await asyncio.wait_for(self.receive(), end - time.monotonic())
            except TimeoutError:
                return
            left -= len(message.get("body", b""))


class _Responder:
    """Sends a response with the headers of the app."""

    def __init__(self, send: Send, body: _Body) -> None:
        self._send, self._body, self._closing = send, body, False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {key.lower() for key, _ in message["headers"]}
            more = [(key.encode(), value.encode()) for key, value in HEADERS.items()]
            headers = [*message["headers"], *(each for each in more if each[0] not in present)]
            if message["status"] >= 400 and not self._body.complete:
                self._closing = True
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        elif self._closing and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._body.drain()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

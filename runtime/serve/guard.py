"""Access control: token, Host and Origin headers, proxies, and security headers of every answer."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from string import Template
from urllib.parse import SplitResult, urlsplit

from anyio import sleep
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgeunet.errors import UsageError

from .connections import network_of
from .throttle import Throttle, TooManyTokens

_MIN_TOKEN_LENGTH = 8
_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# Need no token: they reveal nothing of the pictures.
_OPEN_PATHS = ("/healthz", "/static/")

# Headers that proxies add. Some proxies add none: nginx does so only if it is configured to.
_PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "Via")


def is_loopback(host: str) -> bool:
    """Whether a server bound to `host` can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def choose_token(host: str, given: str | None) -> tuple[str | None, bool]:
    """The token to require, None for none, and whether it was made here.

    Raises:
        UsageError: the given token is too short to keep anyone out.
    """
    if given is not None:
        if len(given) < _MIN_TOKEN_LENGTH:
            raise UsageError(
                f"expected a token of at least {_MIN_TOKEN_LENGTH} characters, got {len(given)}. "
                "Leave it out to have one made."
            )
        return given, False
    return (None, False) if is_loopback(host) else (secrets.token_urlsafe(18), True)


class Guard:
    """Refuses requests that may not come in, and adds security headers to every answer.

    Args:
        token: required from every request. None requires none, for a server that only this machine
            can reach. Web pages still reach it through the browser, under their own host name, and
            other machines through a proxy: both are refused.
        cookie: name of the cookie that keeps a page logged in.
        login_page: HTML of a form for the token. `$unless_wrong` in it becomes "hidden", unless a
            wrong token was sent.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, cookie: str, login_page: str) -> None:
        self._app = app
        self._token = token
        self._cookie = cookie
        self._login_page = Template(login_page)
        # Made of chance: a stolen cookie reveals nothing of the token, which may be in use
        # elsewhere, and whoever guesses tokens cannot try them as cookies.
        self._cookie_value = secrets.token_urlsafe(32)
        self._throttle = Throttle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on; `request.state.trusted` says whether the request has the token.

        Also requests to open a WebSocket, which browsers let any page send, with the cookies of
        this server: only the check of Origin keeps other pages out.
        """
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        throttled = request.state.trusted = False
        try:
            request.state.trusted = await self._is_trusted(request)
        except TooManyTokens:
            throttled = True
        logs_in = self._token is not None and "token" in request.query_params

        async def guarded(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                headers.update(_SECURITY_HEADERS)
                if logs_in and request.state.trusted:
                    cookie = f"{self._cookie}={self._cookie_value}"
                    secure = "; Secure" if scope["scheme"] == "https" else ""
                    attributes = f"Path=/; HttpOnly; SameSite=Strict{secure}"
                    headers.append("Set-Cookie", f"{cookie}; {attributes}")
            await send(message)

        refusal = _THROTTLED if throttled else self._refusal(request)
        await (refusal or self._app)(scope, receive, guarded)

    async def _is_trusted(self, request: HTTPConnection) -> bool:
        """Whether the request brings the token or the cookie, or needs none.

        Raises:
            TooManyTokens: see `Throttle`.
        """
        if self._token is None or _equal(_cookie(request, self._cookie), self._cookie_value):
            return True
        if not (tokens := _tokens(request)):
            return False
        network = network_of(request.client.host if request.client else "")
        await sleep(self._throttle.attempt(network))
        trusted = any(_equal(token, self._token) for token in tokens)
        (self._throttle.was_right if trusted else self._throttle.was_wrong)(network)
        return trusted

    def _refusal(self, request: HTTPConnection) -> Response | None:
        host = request.headers.get("host", "")
        if self._token is None and not is_loopback(_split(f"//{host}").hostname or ""):
            return _error(
                403, f"got the host {host!r}; without a token this server answers only to "
                "localhost and 127.0.0.1. Start it with --token, or with --host to reach it from "
                "elsewhere."
            )  # fmt: skip
        proxy = next((name for name in _PROXY_HEADERS if name in request.headers), None)
        if self._token is None and proxy is not None:
            return _error(
                403, f"got the header {proxy}: the request came through a proxy, from anyone. "
                "Without a token this server answers only to this machine. Start it with --token "
                "or EDGEUNET_TOKEN."
            )  # fmt: skip
        origin = request.headers.get("origin")
        only_reads = request.scope["type"] == "http" and request.scope["method"] == "GET"
        if not only_reads and origin is not None and _split(origin).netloc != host:
            return _error(403, f"got a request from a page of {origin}; only this server's own "
                          "page may send it.")  # fmt: skip
        path = request.scope["path"]
        if path.startswith(_OPEN_PATHS) or request.state.trusted:
            return None
        wrong = bool(_tokens(request))
        if path == "/":
            page = self._login_page.substitute(unless_wrong="" if wrong else "hidden")
            return HTMLResponse(page, 401, headers={"Cache-Control": "no-store"})
        message = _login_help(wrong=wrong, in_query=_takes_token_in_query(request))
        return _error(401, message, {"WWW-Authenticate": "Bearer"})


def _split(url: str) -> SplitResult:
    """Parts of a URL; all empty if it is malformed, as with a lone bracket."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


def _takes_token_in_query(request: HTTPConnection) -> bool:
    return request.scope["type"] == "websocket" or bool(request.scope["method"] == "GET")


def _tokens(request: HTTPConnection) -> list[str]:
    """Tokens that someone entered. Cookies do not count: one may be left from an earlier start."""
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    tokens = [bearer.strip() if scheme.lower() == "bearer" else ""]
    if _takes_token_in_query(request):
        tokens.append(request.query_params.get("token", ""))
    return [token for token in tokens if token]


def _cookie(request: HTTPConnection, name: str) -> str:
    """A cookie, empty if there is none. Python's parser takes quadratic time for some headers."""
    for cookie in request.headers.get("cookie", "").split(";"):
        key, _, value = cookie.partition("=")
        if key.strip() == name:
            return value.strip()
    return ""


def _login_help(*, wrong: bool, in_query: bool) -> str:
    if wrong:
        return "wrong token. If the server made it, it is new after each start."
    also = "or add ?token=TOKEN to the address" if in_query else "?token= is for GET only"
    return f"this server needs its token. Send the header Authorization: Bearer TOKEN; {also}."


def _equal(one: str, other: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers=headers)


_THROTTLED = _error(
    429, "too many wrong tokens from your address. Try again later.", {"Retry-After": "10"}
)
# Addresses reserved for documentation (RFC 5737, RFC 3849): the default route leads to them.
_OUTSIDE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def page_url(host: str, port: int, token: str | None, *, scheme: str = "http") -> str:
    """The address that opens the page of a server listening on `host`, with its token if given.

    A server that listens on all addresses gets the address of this machine in its LAN. The host
    name is used only if there is none, because many networks do not resolve names of machines.
    """
    name = host.strip("[]")
    if name in ("", "0.0.0.0", "::"):  # noqa: S104
        family = socket.AF_INET6 if name == "::" else socket.AF_INET
        name = _own_address(family) or socket.gethostname()
    if ":" in name:
        name = f"[{name}]"
    return f"{scheme}://{name}:{port}/" + (f"?token={token}" if token else "")


def _own_address(family: socket.AddressFamily) -> str | None:
    """The address that this machine sends from, None without a network."""
    try:
        # Connecting a UDP socket chooses a route and its address, and sends nothing.
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_OUTSIDE[family], 9))
            address: str = probe.getsockname()[0]
    except OSError:
        return None
    found = ipaddress.ip_address(address)
    return None if found.is_loopback or found.is_unspecified else address

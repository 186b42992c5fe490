"""Who may ask: the token, the Host header, the Origin, and the headers that keep a page at home."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from string import Template
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgeunet.errors import UsageError

_SHORTEST_TOKEN = 8
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# Answered without a token: they tell nothing of the pictures.
_OPEN_PATHS = ("/healthz", "/static/")

# What proxies add. Not all do: nginx adds none of them unless it is told to.
_OF_PROXIES = ("Forwarded", "X-Forwarded-For", "Via")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server bound there."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def choose_token(host: str, given: str | None) -> tuple[str | None, bool]:
    """The token to ask for, None for none, and whether it was made up here.

    Raises:
        UsageError: the one that was given is too short to keep anyone out.
    """
    if given is not None:
        if len(given) < _SHORTEST_TOKEN:
            raise UsageError(
                f"the token has {len(given)} characters; at least {_SHORTEST_TOKEN} were wanted. "
                "Leave it out, and one is made."
            )
        return given, False
    return (None, False) if is_loopback(host) else (secrets.token_urlsafe(18), True)


class Guard:
    """Lets through what may come, and sets the security headers of every answer.

    Args:
        token: what is asked for. None for none, where only this machine reaches the server: pages
            of the Web do so through its browser, under their own host name, and other machines
            through a proxy, so that both are refused.
        cookie: name of the cookie that keeps a page logged in.
        login_page: asks for the token; `$unless_wrong` in it hides what is said of a wrong one.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, cookie: str, login_page: str) -> None:
        self._app = app
        self._token = token
        self._cookie = cookie
        self._login_page = Template(login_page)
        # A cookie that is stolen does not give the token away, which may be used elsewhere.
        self._pass = None if token is None else hashlib.sha256(token.encode()).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on; `request.state.trusted` tells whether the token was there."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        request.state.trusted = self.knows(request)
        logs_in = self._token is not None and "token" in request.query_params

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if logs_in and request.state.trusted:
                    headers.append("Set-Cookie", self._set_cookie)
            await send(message)

        refusal = self._refusal(request)
        await (refusal or self._app)(scope, receive, guarded)

    def knows(self, request: Request) -> bool:
        """Whether the request brings the token, or none is asked for."""
        if self._token is None or self._pass is None:
            return True
        if any(_same(came, self._token) for came in _tokens(request)):
            return True
        return _same(request.cookies.get(self._cookie, ""), self._pass)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if self._token is None and not is_loopback(_parts(f"//{host}").hostname or ""):
            return _error(
                403, f"Host is {host!r}; without a token this server answers to localhost and "
                "127.0.0.1 alone. Start it with --host to reach it from elsewhere, or with --token."
            )  # fmt: skip
        forwarded = next((name for name in _OF_PROXIES if name in request.headers), None)
        if self._token is None and forwarded is not None:
            return _error(
                403, f"{forwarded} came: a proxy asks for someone else, who may be anyone; without "
                "a token this server answers to this machine alone. Start it with --token or "
                "EDGEUNET_TOKEN."
            )  # fmt: skip
        origin = request.headers.get("origin")
        if request.method != "GET" and origin is not None and _parts(origin).netloc != host:
            return _error(403, f"a page of {origin} asked; only this server's own page may.")
        path = request.scope["path"]
        if path.startswith(_OPEN_PATHS) or request.state.trusted:
            return None
        wrong = bool(_tokens(request))
        if path == "/":
            page = self._login_page.substitute(unless_wrong="" if wrong else "hidden")
            return HTMLResponse(page, 401, headers={"Cache-Control": "no-store"})
        return _error(401, _advice(request.method, wrong=wrong), {"WWW-Authenticate": "Bearer"})

    @property
    def _set_cookie(self) -> str:
        return f"{self._cookie}={self._pass}; Path=/; HttpOnly; SameSite=Strict"


def _parts(url: str) -> SplitResult:
    """Parts of an address, all empty where it cannot be taken apart, as with a lone bracket."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


def _tokens(request: Request) -> list[str]:
    """What came as a token. A cookie is none: nobody entered it, it is left of an earlier start."""
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    came = [bearer.strip() if scheme.lower() == "bearer" else ""]
    if request.method == "GET":
        came.append(request.query_params.get("token", ""))
    return [token for token in came if token]


def _advice(method: str, *, wrong: bool) -> str:
    if wrong:
        return "the token is wrong. One that the server makes is new with each start."
    also = ", or ?token=TOKEN." if method == "GET" else "; ?token= is taken of GET alone."
    return f"a token is asked for: Authorization: Bearer TOKEN{also}"


def _same(came: str, wanted: str) -> bool:
    return hmac.compare_digest(came.encode(), wanted.encode())


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers=headers)


# Addresses of documentation, which hardly a LAN has: the way there is the default route.
_OUTSIDE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def page_url(host: str, port: int, token: str | None) -> str:
    """Where others find a server that listens on `host`; with the token, if one is given.

    A server on all addresses is told by the one that this machine has in its LAN, or by its name
    where it has none: many networks do not resolve the names of their machines.
    """
    name = host.strip("[]")
    if name in ("", "0.0.0.0", "::"):  # noqa: S104
        family = socket.AF_INET6 if name == "::" else socket.AF_INET
        name = _own_address(family) or socket.gethostname()
    if ":" in name:
        name = f"[{name}]"
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")


def _own_address(family: socket.AddressFamily) -> str | None:
    """Address that this machine speaks to others from, None where it has no way to them."""
    try:
        # Connecting UDP chooses a route and with it an address; nothing is sent.
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_OUTSIDE[family], 9))
            address: str = probe.getsockname()[0]
    except OSError:
        return None
    found = ipaddress.ip_address(address)
    return None if found.is_loopback or found.is_unspecified else address

"""The door of the page: who may knock, on which of Gradio's routes, and what every response says.

Knows HTTP, and what the page and its clients need of Gradio. Does not know sessions, images or models.
"""

import logging
import re
import sys
from dataclasses import dataclass, replace
from http import HTTPStatus
from types import SimpleNamespace

import gradio as gr
from gradio import processing_utils, queueing, route_utils, routes
from gradio.routes import App, ORJSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat.settings import flag, is_loopback, variable
from chat.ui.diary import log_bug
from chat.ui.lan import WINDOW_SECONDS, Access, Attempts
from chat.ui.owners import LOGIN, UPLOADS, Owners
from chat.ui.usher import Usher

LOBBY = {
    "/": "GET HEAD", "/favicon.ico": "GET", "/theme.css": "GET", "/assets/{path:path}": "GET", "/static/{path:path}": "GET",
    "/gradio_api/startup-events": "GET", LOGIN: "POST",
}  # fmt: skip
"""What somebody gets who has not logged in yet: the page as it asks for a password, and Gradio's own code."""

ROOMS = {
    "/config": "GET", "/logout": "GET", UPLOADS: "POST", "/gradio_api/info": "GET",
    "/gradio_api/heartbeat/{session_hash}": "GET", "/gradio_api/queue/join": "POST", "/gradio_api/queue/data": "GET",
    "/gradio_api/call/{api_name}": "POST", "/gradio_api/call/{api_name}/{event_id}": "GET",
    "/gradio_api/run/{api_name}": "POST", "/gradio_api/cancel": "POST", "/gradio_api/component_server/": "POST",
}  # fmt: skip
"""What the page and `gradio_client` need beside. Every other route of Gradio is closed; tests/test_door.py lists them."""

LASTING = ("/assets/", "/static/")
"""Gradio's own code, which holds nothing of anybody."""

MOST_WORDS = 8 << 20
"""Bytes in the body of what is not an upload."""

MOST_OF_A_STRANGER = 64 << 10
"""Bytes in the body of a login: nobody knows yet who it is that makes Hilum hold them."""

LONGEST_PATH = 1024
"""Characters; a longer one is no file's."""

HEADERS = {
    # Gradio draws by inline scripts, and builds those of its HTML parts from text. Nothing is sent or fetched elsewhere.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "media-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; frame-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # the page's own requests carry one: it stands in where a browser sends no Origin
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}

REFUSED = {
    HTTPStatus.NOT_FOUND: "There is nothing here in Hilum.",
    HTTPStatus.LENGTH_REQUIRED: "Say how long the request is, in Content-Length.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "This is longer than Hilum takes here; send pictures as uploads.",
    HTTPStatus.MISDIRECTED_REQUEST: f"Hilum does not go by this name; open it as 127.0.0.1, or start it with {flag('hosts')} "
    f"({variable('hosts')}) and the name.",
    HTTPStatus.FORBIDDEN: "This request does not come from Hilum's own page; a client sends the page's address as Origin.",
    HTTPStatus.UNAUTHORIZED: "Log in first.",
    HTTPStatus.TOO_MANY_REQUESTS: f"Too many wrong passwords; try again in {WINDOW_SECONDS // 60} minutes.",
}

log = logging.getLogger(__name__)


def _compiled(routes: dict[str, str]) -> tuple[tuple[re.Pattern[str], frozenset[str]], ...]:
    return tuple((compile_path(path)[0], frozenset(methods.split())) for path, methods in routes.items())


def _leads_to(path: str, method: str, routes: tuple[tuple[re.Pattern[str], frozenset[str]], ...]) -> bool:
    return any(method in methods and pattern.match(path) for pattern, methods in routes)


IN_LOBBY, IN_ROOMS = _compiled(LOBBY), _compiled(ROOMS)


@dataclass(frozen=True)
class Place:
    """A host and its port as a header names them, in lower case; `port` is None where it is left out."""

    name: str
    port: int | None

    @classmethod
    def read(cls, written: str) -> "Place | None":
        found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[0-9a-z._-]+)(?::([0-9]{1,5}))?", written.strip().lower())
        return cls(found[1].strip("[]"), int(found[2]) if found[2] else None) if found else None


class Door:
    """Stands before all of Gradio, its error pages and its CORS answers too."""

    def __init__(self, inside: ASGIApp, gradio_app: App, access: Access, attempts: Attempts) -> None:
        self.inside = inside
        self.gradio_app = gradio_app
        self.access = access
        self.attempts = attempts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.inside(scope, receive, send)
            return
        address = _end(scope, "client")
        refused = self._refusal(scope)
        is_try = refused is None and scope["path"] == LOGIN
        if is_try and not self.attempts.begin(address):
            refused, is_try = HTTPStatus.TOO_MANY_REQUESTS, False
            log.warning("a login was refused: too many wrong passwords")

        async def finish(message: Message) -> None:
            if message["type"] == "http.response.start":
                if is_try and message["status"] != HTTPStatus.BAD_REQUEST:
                    self.attempts.take_back(address)  # it was right, or no password at all
                _dress(message, scope)
            await send(message)

        if refused is None:
            await self.inside(scope, receive, finish)
        else:
            extra = {"Retry-After": str(WINDOW_SECONDS)} if refused == HTTPStatus.TOO_MANY_REQUESTS else None
            await PlainTextResponse(REFUSED[refused], refused, extra)(scope, receive, finish)

    def _refusal(self, scope: Scope) -> HTTPStatus | None:
        """Why this request may not come in, the first reason of several."""
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        host = Place.read(headers.get("host", ""))
        names = [name for value in headers.getlist("x-forwarded-host") for name in value.split(",")]
        if host is None or not all(self._is_ours(place, scope) for place in (host, *map(Place.read, names))):
            return HTTPStatus.MISDIRECTED_REQUEST
        if not self._comes_from_us(scope, headers, host):
            return HTTPStatus.FORBIDDEN
        is_in_lobby = _leads_to(path, method, IN_LOBBY)
        if len(path) > LONGEST_PATH or (not is_in_lobby and not _leads_to(path, method, IN_ROOMS)):
            return HTTPStatus.NOT_FOUND
        if method == "POST" and path != UPLOADS:
            if not headers.get("content-length", "").isdecimal():
                return HTTPStatus.LENGTH_REQUIRED
            if int(headers["content-length"]) > (MOST_OF_A_STRANGER if path == LOGIN else MOST_WORDS):
                return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return None if is_in_lobby or self._has_logged_in(scope) else HTTPStatus.UNAUTHORIZED

    def _is_ours(self, place: Place | None, scope: Scope) -> bool:
        """A loopback name, a name that the person gave, or the very address that the connection came to.

        A page elsewhere can point its own name at this machine (DNS rebinding), but then that name is what stands here.
        """
        if place is None:
            return False
        return is_loopback(place.name) or place.name in self.access.hosts or place.name == _end(scope, "server")

    def _comes_from_us(self, scope: Scope, headers: Headers, host: Place) -> bool:
        """Whether our own page asks, by Origin, by what the browser says of the site (Fetch Metadata), or by Referer.

        Without any of them it is no browser, or an old one: it passes on this machine alone.
        """
        site, origins = headers.get("sec-fetch-site"), headers.getlist("origin")
        if origins and not all(_is_same(origin, host, scope) for origin in origins):
            return False
        if site in ("cross-site", "same-site"):  # same-site is another port or a neighbouring name: somebody else's page
            return scope["path"] == "/" and scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if origins or site or (scope["method"] in ("GET", "HEAD") and not _leads_to(scope["path"], "GET", IN_ROOMS)):
            return True
        if "referer" in headers:
            return _is_same(headers["referer"], host, scope)
        return is_loopback(host.name) and (self.access.is_contained or is_loopback(_end(scope, "client")))

    def _has_logged_in(self, scope: Scope) -> bool:
        """Gradio's own tokens; it asks for them on some of its routes, and Hilum on all."""
        if self.gradio_app.auth is None:
            return True
        cookies, name = HTTPConnection(scope).cookies, self.gradio_app.cookie_id
        given = (cookies.get(f"access-token-{name}"), cookies.get(f"access-token-unsecure-{name}"))
        return any(token in self.gradio_app.tokens for token in given if token)


class House(App):
    """Gradio's application behind the door."""

    def __init__(self, host: str, access: Access) -> None:
        hush()
        super().__init__(default_response_class=ORJSONResponse, middleware=[Middleware(Owners), Middleware(Usher)])
        self.access = replace(access, hosts=access.hosts | ({host.strip("[]")} - {"0.0.0.0"}))

    def build_middleware_stack(self) -> ASGIApp:
        return Door(super().build_middleware_stack(), self, self.access, Attempts())


def stay_home() -> None:
    """Gradio fetches what a request names by an address; from here on it says no instead."""

    async def refuse(url: str, cache_dir: str) -> str:
        raise gr.Error("Send the picture itself; Hilum fetches nothing from an address.", print_exception=False)

    setattr(processing_utils, "async_ssrf_protected_download", refuse)  # noqa: B010


def hush() -> None:
    """What fails within Gradio and uvicorn is told as a bug of ours: they print its message, which may be what was sent."""
    for module in (queueing, routes, route_utils):
        setattr(module, "traceback", SimpleNamespace(print_exc=_tell_bug))  # noqa: B010
    logging.getLogger("uvicorn.error").addFilter(_is_plain)  # once, however often


def _is_plain(record: logging.LogRecord) -> bool:
    if record.exc_info:
        _tell_bug(record.exc_info[1])
    return not record.exc_info


def _tell_bug(error: BaseException | None = None) -> None:
    error = error or sys.exc_info()[1]
    if isinstance(error, Exception):
        log_bug(error)


def _end(scope: Scope, name: str) -> str:
    """The address at one end of the connection, as it is written without IPv6 around it; empty where there is none."""
    return str((scope.get(name) or ("",))[0]).removeprefix("::ffff:")


def _is_same(origin: str, host: Place, scope: Scope) -> bool:
    """Whether an origin (or the address of a page) is the one that this request came to."""
    scheme, _, rest = origin.lower().partition("://")
    theirs = Place.read(rest.partition("/")[0])
    default = {"http": 80, "https": 443}.get(scheme)
    if theirs is None or default is None or (scope.get("scheme") == "https" and scheme != "https"):
        return False
    is_same_name = theirs.name == host.name or (is_loopback(theirs.name) and is_loopback(host.name))
    return is_same_name and (theirs.port or default) == (host.port or default)


def _dress(message: Message, scope: Scope) -> None:
    """The headers of every response. Nobody else's page may read one, and no browser keeps what is somebody's."""
    headers = MutableHeaders(scope=message)
    for name in [name for name in headers if name.startswith("access-control-")]:
        del headers[name]
    headers.update(HEADERS)
    if not scope["path"].startswith(LASTING) or message["status"] >= HTTPStatus.BAD_REQUEST:
        headers["Cache-Control"] = "no-store"
    cookies = headers.getlist("set-cookie")
    del headers["set-cookie"]
    for cookie in cookies:
        if scope.get("scheme") == "https" and cookie.startswith("access-token-unsecure"):
            continue  # it would also travel unencrypted
        headers.append("set-cookie", re.sub(r"; *samesite=\w+", "", cookie, flags=re.IGNORECASE) + "; SameSite=lax")

"""The server of ``liif view``: the page, what it has to know of the picture, and the views.

A request from elsewhere, without the token, too large or wrong is answered with one line that says why.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import UserError
from .render_queue import Busy, RenderQueue, RenderRequest
from .renderer import Renderer
from .views import LAYERS, MAX_PIXELS, MAX_SIDE, SCALES, TooLarge, parsed

PAGE = Path(__file__).parent / "page"
FILES = {
    "/": "index.html",
    "/view.css": "view.css",
    "/view.js": "view.js",
    "/layer.js": "layer.js",
    "/icon.svg": "icon.svg",
}
OPEN_TO_ALL = set(FILES) - {"/"}  # paths that say nothing about the picture: no token is asked for
MAX_QUERY = 1000  # bytes
MAX_CONNECTIONS = 512
REQUEST_TIMEOUT = 10.0  # seconds in which a connection must have sent a whole request
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
# Nobody elsewhere can own a name in these domains.
PRIVATE_DOMAINS = ("local", "lan", "home", "home.arpa", "internal", "localdomain")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def is_own_host(header: str, host: str) -> bool:
    """Return whether a Host header names this server, which listens at ``host``.

    A page elsewhere whose name was made to point here (DNS rebinding) sends its own name. Numeric addresses
    cannot be made to point elsewhere.
    """
    match = re.fullmatch(r"\[([0-9a-fA-F:.]+)\](?::\d+)?|([^:\[\]]+)(?::\d+)?", header.strip())
    if match is None:
        return False
    name = (match[1] or match[2]).lower().rstrip(".")
    if name in LOOPBACK or name == host.lower():
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        own = socket.gethostname().lower()
        names = {
            own,
            socket.getfqdn().lower(),
            *(f"{own.partition('.')[0]}.{domain}" for domain in PRIVATE_DOMAINS),
        }
        return host not in LOOPBACK and name in names
    return host not in LOOPBACK


class Gate:
    """Let through the requests of our own page, and of a person who has the link."""

    def __init__(self, app, host: str, token: str):
        self.app, self.host, self.token = app, host, token.encode()

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((k.lower().encode(), v.encode()) for k, v in HEADERS.items()),
                ]
            await send(message)

        refused = self._refusal(Request(scope))
        await (PlainTextResponse(f"{refused[1]}\n", refused[0]) if refused else self.app)(
            scope, receive, send_guarded
        )

    def _refusal(self, request: Request) -> tuple[int, str] | None:
        headers = request.headers
        if not is_own_host(headers.get("host", ""), self.host):
            advice = "use the numeric one"
            if self.host in LOOPBACK:
                advice = f"it listens at {self.host}, start it with another host to reach it from elsewhere"
            return 403, f"Host: this server answers only to its own address; {advice}."
        site = headers.get("sec-fetch-site", "none")
        # A link that somebody followed
        opened = request.url.path == "/" and headers.get("sec-fetch-mode") == "navigate"
        if site not in ("none", "same-origin") and not opened:
            return 403, "Sec-Fetch-Site: pages of other addresses may not ask this server."
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != headers["host"].strip().lower():
            return 403, "Origin: pages of other addresses may not ask this server."
        if request.method not in ("GET", "HEAD"):
            return 405, f"{request.method[:20]}: expected GET."
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            return 413, "body: expected none."
        if len(request.scope["query_string"]) > MAX_QUERY:
            return 414, f"query: expected at most {MAX_QUERY} bytes."
        if request.url.path not in OPEN_TO_ALL and not self._has_token(request):
            return 403, "token: expected the one in the link that `liif view` has printed."
        return None

    def _has_token(self, request: Request) -> bool:
        """Compare in a time that does not tell how many characters are right."""
        return secrets.compare_digest(request.query_params.get("token", "").encode(), self.token)


def app_of(renderer: Renderer, name: str, model: str, token: str, host: str = "127.0.0.1") -> Starlette:
    """Return the application that serves the page and the views of one picture.

    Args:
        renderer: renders the views.
        name: name of the picture, as the page shows it.
        model: name of the model, as the page shows it.
        token: secret that the query of each request for the page, the picture's data or a view must have.
        host: address that the server will listen at.
    """
    queue, engine = RenderQueue(), renderer.engine

    async def page(request: Request) -> Response:
        return FileResponse(PAGE / FILES[request.url.path])

    async def about(request: Request) -> Response:
        return JSONResponse(
            {
                "name": name,
                "width": renderer.size[1],
                "height": renderer.size[0],
                "clear": renderer.alpha is not None,
                "model": model,
                "how": f"{type(engine.net).__name__} on {engine.device.type} in {engine.precision}",
                "ensemble": renderer.has_ensemble,
                "cell": renderer.has_cell,
                "layers": LAYERS,
                "scales": SCALES,
                "max_pixels": MAX_PIXELS,
                "max_side": MAX_SIDE,
            }
        )

    async def render(request: Request) -> Response:
        query = dict(request.query_params)
        if len(query) != len(request.query_params.multi_items()):
            raise UserError("query: each name may be given once.")
        query.pop("token")
        client = query.pop("client", "")
        if not re.fullmatch(r"[\w-]{0,40}", client, re.ASCII):
            raise UserError("client: expected up to 40 letters and digits.")
        view = parsed(query)
        render_request = queue.start(client, renderer.bands(view))
        first = None
        try:
            first = await _next(queue, render_request, request)
        finally:
            if first is None:
                queue.end(render_request)
        if first is None:
            return PlainTextResponse("stale: a newer view was asked for.\n", 409)
        size = {"X-Size": f"{view.size[1]}x{view.size[0]}"}
        return StreamingResponse(
            _rows(queue, render_request, first, request), media_type="application/octet-stream", headers=size
        )

    def told(status: int):
        async def handler(request: Request, error: Exception) -> Response:
            return PlainTextResponse(f"{' '.join(str(error).split())}\n", status)

        return handler

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return PlainTextResponse(f"{error.detail}: there is /, /about and /render.\n", error.status_code)

    async def busy(request: Request, error: Exception) -> Response:
        return PlainTextResponse(
            "busy: too many views at once; ask again in a moment.\n", 503, headers={"Retry-After": "1"}
        )

    app = Starlette(
        routes=[*(Route(path, page) for path in FILES), Route("/about", about), Route("/render", render)],
        exception_handlers={TooLarge: told(413), UserError: told(400), HTTPException: refused, Busy: busy},
    )
    app.router.redirect_slashes = False
    app.add_middleware(Gate, host=host, token=token)
    app.state.queue = queue
    return app


async def _next(queue: RenderQueue, render_request: RenderRequest, request: Request) -> np.ndarray | None:
    """Return the next band that has rows; None at the end, or if the view is not wanted any more."""
    while not render_request.stale and not await request.is_disconnected():
        band = await queue.band(render_request)
        if band is None or len(band):
            return band
    return None


async def _rows(
    queue: RenderQueue, render_request: RenderRequest, band: np.ndarray | None, request: Request
) -> AsyncIterator[bytes]:
    try:
        while band is not None:
            yield band.tobytes()
            band = await _next(queue, render_request, request)
    finally:
        queue.end(render_request)


def listening(host: str, port: int | None, wanted: int = 8321) -> socket.socket:
    """Return a socket that listens at ``host``.

    Args:
        host: name or address.
        port: its port; None takes ``wanted``, or any free port if that is in use.
        wanted: see ``port``.

    Raises:
        UserError: if ``port`` is in use, or ``host`` is no address of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port or 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise UserError(f"host {host}: is not known here ({error.strerror}).") from error
    for number in (wanted, 0) if port is None else (port,):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((address[0], number, *address[2:]))
            sock.listen(64)
            return sock
        except OSError as error:
            sock.close()
            if port is None and number:
                continue
            reason = f"cannot listen there ({error.strerror}); choose another port or host"
            raise UserError(f"host {host}, port {number}: {reason}.") from error
    raise AssertionError("unreachable")


class TimedProtocol(H11Protocol):
    """Close a connection that has not sent a whole request in REQUEST_TIMEOUT seconds.

    uvicorn itself would wait forever.
    """

    deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        self._start_timer()

    def on_response_complete(self) -> None:
        self._start_timer()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._stop_timer()
        self.deadline = self.loop.call_later(REQUEST_TIMEOUT, self._close_unless_answering)

    def _stop_timer(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()

    def _close_unless_answering(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def serve(app: Starlette, sock: socket.socket) -> uvicorn.Server:
    """Return the server of ``app`` on ``sock``. Call its run()."""
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        lifespan="off",
        ws="none",
        http=TimedProtocol,
        loop="asyncio",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=1,
        server_header=False,
        proxy_headers=False,
    )
    return uvicorn.Server(config)

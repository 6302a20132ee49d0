"""What the dashboard's server does besides pages: cookies, pass phrases, short links, health.

:func:`parts` are what ``app.py`` gives to Streamlit's application; nothing here imports torch.
"""

from __future__ import annotations

import html
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from etp.run.access import check_configuration
from etp.run.events import event, to_stderr
from etp.ui import document, monitor, visitors

YEAR_S = 365 * 24 * 3600
WAIT_S = 1.0
"""Pause after a wrong phrase, so that trying them all takes for ever."""


class VisitorCookie:
    """Gives every browser a visitor of its own with its first page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; add the cookie where the browser has none that this server wrote."""
        if scope["type"] != "http" or _has_visitor(Request(scope)):
            await self._app(scope, receive, send)
            return
        secure = Request(scope).url.scheme == "https"

        async def with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                value = visitors.signed(visitors.new_visitor())
                MutableHeaders(scope=message).append(
                    "set-cookie", _cookie(visitors.VISITOR, value, secure=secure)
                )
            await send(message)

        # Only documents: of files fetched at the same moment each would bring another visitor.
        wanted = "text/html" in Request(scope).headers.get("accept", "")
        await self._app(scope, receive, with_cookie if wanted else send)


def _has_visitor(request: Request) -> bool:
    return visitors.unsigned(request.cookies.get(visitors.VISITOR)) is not None


def _cookie(name: str, value: str, *, secure: bool, age: int = YEAR_S) -> str:
    flag = "; Secure" if secure else ""
    return f"{name}={value}; Max-Age={age}; Path=/; HttpOnly; SameSite=Lax{flag}"


_last_wrong = 0.0


async def enter(request: Request) -> Response:
    """Take a pass phrase (POST) or ask for one (GET)."""
    global _last_wrong
    if request.method == "GET":
        return _form("")
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        return PlainTextResponse("This form was sent from another site.", status_code=403)
    if time.monotonic() - _last_wrong < WAIT_S:
        return _form("Wait a second before the next try.", status=429)
    body = (await request.body())[:1000].decode(errors="replace")
    role = visitors.role_of_phrase(_field(body, "phrase"))
    if role is None:
        _last_wrong = time.monotonic()
        event("phrase_refused")
        return _form("This is not the phrase. Ask whoever runs this server.", status=403)
    event("role_given", role=role)
    answer = RedirectResponse(_root(request), status_code=303)
    secure = request.url.scheme == "https"
    answer.headers.append(
        "set-cookie", _cookie(visitors.ROLE, visitors.signed(role), secure=secure)
    )
    return answer


def _field(body: str, name: str) -> str:
    from urllib.parse import parse_qs

    return parse_qs(body).get(name, [""])[0]


def _form(message: str, status: int = 200) -> HTMLResponse:
    note = f'<p role="alert">{html.escape(message)}</p>' if message else ""
    return HTMLResponse(
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width"><title>etp</title>'
        "<style>body{font:16px sans-serif;max-width:24rem;margin:15vh auto;padding:0 1rem;"
        "color-scheme:light dark}input,button{font:inherit;padding:.4rem}</style>"
        "<h1>etp</h1><p>Looking needs no phrase. To run measurements, enter it here.</p>"
        f"{note}<form method=post><label>Pass phrase <input name=phrase type=password autofocus "
        "autocomplete=current-password></label> <button>Enter</button></form></html>",
        status_code=status,
    )


async def leave(request: Request) -> Response:
    """Forget the role that a phrase gave."""
    answer = RedirectResponse(_root(request), status_code=303)
    answer.headers.append("set-cookie", _cookie(visitors.ROLE, "", secure=False, age=0))
    return answer


async def short_link(request: Request) -> Response:
    """A published run under a short, stable address, with what a chat shows of it."""
    from etp.ui.gallery import published

    run = published(request.path_params["key"])
    if run is None:
        return PlainTextResponse("No run is published under this address.", status_code=404)
    title, about, target = html.escape(run.title), html.escape(run.sentence), _root(request)
    address = html.escape(f"{target}{run.page}?{run.query}", quote=True)
    picture = html.escape(str(request.url_for("picture", key=run.key)), quote=True)
    return HTMLResponse(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title} · etp</title>"
        f'<meta property="og:title" content="{title}">'
        f'<meta property="og:description" content="{about}">'
        f'<meta property="og:image" content="{picture}">'
        '<meta name="twitter:card" content="summary_large_image">'
        f'<meta http-equiv="refresh" content="0;url={address}">'
        f'<p><a href="{address}">{title}</a>: {about}</html>'
    )


async def picture(request: Request) -> Response:
    """The picture of a published run."""
    from starlette.concurrency import run_in_threadpool

    from etp.ui.gallery import drawn, published

    run = published(request.path_params["key"])
    body = None if run is None else await run_in_threadpool(drawn, run.key)
    if body is None:
        return PlainTextResponse("No picture under this address.", status_code=404)
    return Response(body, media_type="image/png", headers={"cache-control": "max-age=3600"})


def _root(request: Request) -> str:
    return f"{str(request.base_url).rstrip('/')}{visitors.base_path()}/"


@asynccontextmanager
async def lifespan(_: Any) -> AsyncIterator[None]:
    """Say how it is configured at the start; end the workers at the end."""
    from etp.run.config import limits
    from etp.ui import jobs

    to_stderr()
    event("server_started", access=visitors.access().mode, limits=vars(limits()))
    yield
    jobs.close()
    event("server_stopped")


def parts() -> dict[str, Any]:
    """Arguments of Streamlit's application.

    Raises:
        SystemExit: With one sentence, if the configuration cannot be read as meant.
    """
    try:
        check_configuration()
    except ValueError as error:
        raise SystemExit(f"etp: {error}") from error
    base = visitors.base_path()
    return {
        "lifespan": lifespan,
        "middleware": [
            Middleware(monitor.OnlyHere),
            Middleware(VisitorCookie),
            Middleware(document.FirstFrame),
        ],
        "routes": [
            # Where they are does not depend on the proxy that they are not for.
            Route("/health", monitor.health),
            Route("/metrics", monitor.metrics),
            Route(f"{base}/enter", enter, methods=["GET", "POST"]),
            Route(f"{base}/leave", leave),
            Route(f"{base}/r/{{key}}", short_link),
            Route(f"{base}/r/{{key}}/picture.png", picture, name="picture"),
        ],
    }

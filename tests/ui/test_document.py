"""The first thing that a browser gets has something to see, and nothing else is touched."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest
import streamlit
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import Message

from etp.ui.document import FRAME, FirstFrame, framed

START = (Path(streamlit.__file__).parent / "static" / "index.html").read_bytes()
PAGES = {
    "/": lambda _: HTMLResponse(START),
    "/parts": lambda _: StreamingResponse(
        iter([START[:5000], START[5000:]]),
        media_type="text/html",
        headers={"content-length": str(len(START))},
    ),
    "/enter": lambda _: HTMLResponse("<h1>etp</h1>"),
    "/text": lambda _: PlainTextResponse('<div id="root"></div>'),
}


def ask(path: str, **headers: str) -> tuple[dict[str, str], bytes]:
    routes = [Route(place, page) for place, page in PAGES.items()]
    app = Starlette(routes=routes, middleware=[Middleware(FirstFrame), Middleware(GZipMiddleware)])
    given = {"accept": "text/html", "accept-encoding": "gzip", **headers}
    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
        "query_string": b"", "root_path": "", "scheme": "http", "server": ("127.0.0.1", 80),
        "http_version": "1.1", "client": ("127.0.0.1", 1),
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in given.items()],
    }  # fmt: skip
    sent: list[Message] = []

    asked = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if not asked:
            await asyncio.Event().wait()  # nobody leaves
        return asked.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    got = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
    body = b"".join(m.get("body", b"") for m in sent[1:])
    assert int(got.get("content-length", len(body))) == len(body)
    return got, body


@pytest.mark.parametrize("path", ["/", "/parts"])
def test_the_start_page_has_something_to_see(path):
    headers, body = ask(path)
    assert "content-encoding" not in headers
    assert body == framed(START)
    assert FRAME.encode() in body
    assert b"<title>etp</title>" in body
    assert body.count(b'id="root"') == 1


def test_nothing_else_is_touched():
    assert ask("/enter")[1] == b"<h1>etp</h1>"
    assert ask("/text")[1] == b'<div id="root"></div>'
    headers, body = ask("/", accept="*/*")
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body) == START

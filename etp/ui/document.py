"""The document that a browser gets first: something to see before Streamlit's program is there.

Streamlit sends an empty page and a program of megabytes that fills it. Until it runs a visitor
looks at nothing; what stands in the place that the program fills is gone as soon as it does.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PLACE = b'<div id="root"></div>'
FRAME = """<div id="root"><style>
.etp-first { position: fixed; inset: 0; padding: 1rem 2rem; background: #fff; color: #1c2127;
  font: 15px/1.5 "Source Sans", sans-serif; }
.etp-first b { font-size: 1.3rem; }
@media (prefers-color-scheme: dark) { .etp-first { background: #14181d; color: #e6eaef; } }
</style><div class="etp-first" role="status"><b>etp</b><br>
Which equivariant tensor product? The page is on its way.</div></div>"""
TITLE, OWN_TITLE = b"<title>Streamlit</title>", b"<title>etp</title>"
LARGEST = 100_000
"""Bytes of a document that is looked into; what is larger is no start page."""


class FirstFrame:
    """Puts a frame into the start page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; of a document keep the body until all of it is there."""
        if scope["type"] != "http" or scope["method"] != "GET" or not _document(scope):
            await self._app(scope, receive, send)
            return
        # What is packed cannot be looked into; it is a few kilobytes.
        plainly = [h for h in scope["headers"] if h[0] not in (b"accept-encoding", b"range")]
        await self._app({**scope, "headers": plainly}, receive, _Framed(send))


def _document(scope: Scope) -> bool:
    return "text/html" in Request(scope).headers.get("accept", "")


class _Framed:
    """Sends an answer on, with the frame where it is the start page."""

    def __init__(self, send: Send) -> None:
        self._send, self._body = send, b""
        self._start: Message | None = None

    async def __call__(self, message: Message) -> None:
        """Hold back the start of a page until its body is whole."""
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message["headers"])
            short = int(headers.get("content-length") or LARGEST + 1) <= LARGEST
            if short and headers.get("content-type", "").startswith("text/html"):
                self._start = message
                return
        if self._start is None or message["type"] != "http.response.body":
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body", False):
            return
        start, body = self._start, framed(self._body)
        MutableHeaders(raw=start["headers"])["content-length"] = str(len(body))
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


def framed(body: bytes) -> bytes:
    """A start page with the frame; anything else as it is."""
    if PLACE not in body:
        return body
    return body.replace(PLACE, FRAME.encode(), 1).replace(TITLE, OWN_TITLE, 1)

"""For whoever runs the server, from the machine itself: is it well, and what does it do?

``/health`` is 200 while pages and the store work, else 503; ``/metrics`` speaks Prometheus's text
format. Both, and Streamlit's own metrics, answer on the loopback interface only and to nothing
that came through a proxy: for everybody else they are not there.
"""

from __future__ import annotations

import ipaddress
import resource
import sys
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit.runtime import Runtime

from etp.results.store import StoreError
from etp.ui import visitors

PRIVATE = ("/health", "/metrics", "/_stcore/metrics")
_PASSED_ON = (b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via")
_PAGE = resource.getpagesize()
_STATES = ("queued", "running")


class OnlyHere:
    """Hides what is for the host of this server from everyone else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer that nothing is there."""
        if scope["type"] == "http" and _is_private(scope["path"]) and not _from_here(scope):
            await PlainTextResponse("Not Found", status_code=404)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _is_private(path: str) -> bool:
    return path.removeprefix(visitors.base_path()).rstrip("/") in PRIVATE


def _from_here(scope: Scope) -> bool:
    """Whether a request was made on this machine, by no proxy."""
    if any(name in _PASSED_ON for name, _ in scope["headers"]):
        return False
    try:
        return ipaddress.ip_address((scope.get("client") or ("",))[0]).is_loopback
    except ValueError:
        return False


async def health(_: Request) -> Response:
    """Whether sessions are taken and the store can be read; if not, what is wrong."""
    wrong = []
    if not (Runtime.exists() and (await Runtime.instance().is_ready_for_browser_connection)[0]):
        wrong.append("no sessions are taken")
    try:
        await run_in_threadpool(_jobs)
    except StoreError as error:
        wrong.append(str(error))
    return JSONResponse({"ok": not wrong, "wrong": wrong}, status_code=503 if wrong else 200)


async def metrics(_: Request) -> Response:
    """Jobs, rows, sizes and processor time, as Prometheus reads them."""
    values = _process()
    try:
        values |= await run_in_threadpool(_stored)
    except StoreError:
        values["etp_store_readable"] = 0
    lines = [f"{name} {value}" for name, value in values.items()]
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


def _jobs() -> dict[str, float]:
    from etp.ui.jobs import store

    return {f'etp_jobs{{state="{state}"}}': len(store().jobs(state)) for state in _STATES}


def _stored() -> dict[str, float]:
    from etp.ui.jobs import store

    size = store().path.stat().st_size if store().path.exists() else 0
    return {
        "etp_store_readable": 1,
        "etp_rows_total": store().revision(),
        "etp_store_bytes": size,
        **_jobs(),
    }


def _process() -> dict[str, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "process_cpu_seconds_total": round(used.ru_utime + used.ru_stime, 3),
        "process_resident_memory_bytes": _resident(used.ru_maxrss),
    }


def _resident(most_kb: int) -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except OSError:
        # Without /proc the most that it ever was, which macOS counts in bytes.
        return most_kb if sys.platform == "darwin" else most_kb * 1024

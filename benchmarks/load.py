"""What pages cost a server: processor time, bytes and waiting, over Streamlit's own protocol.

``python -m benchmarks.load`` starts the dashboard with an empty store and visits it as browsers do,
by websocket and protobuf messages, without drawing anything. ``--before CHECKOUT`` does the same
with another checkout first, so that both columns of the table come from one run on one machine.
Linux only: processor time and memory are read from ``/proc``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Block_pb2 import Block
from streamlit.proto.Delta_pb2 import Delta
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("", "layers", "scaling", "equivariance", "expressivity", "applications", "results")
"""Pages as their addresses name them; the first is Compare."""
WARM = 10
"""Reruns that processor time is the mean of: the system counts it in steps of 10 ms."""
PATIENCE_S = 90.0
THINK_S = (2.0, 6.0)
"""How long a visitor looks at a page."""
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
JOB = {"lmax": "1:8", "batch": "10000", "products": "cg-sparse,gaunt-grid,matrix,e3nn"}
FAILED = "could not be shown"


class Server:
    """The dashboard of a checkout, in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], address: str) -> None:
        self.process, self.address = process, address

    def processor_s(self) -> float:
        """Processor time of the server's process so far; its workers are not in it."""
        return sum(map(int, self._stat()[13:15])) * TICK_S

    def megabytes(self) -> float:
        """Memory that the server's process holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def _stat(self) -> list[str]:
        text = Path(f"/proc/{self.process.pid}/stat").read_text()
        # The name of the program, in brackets, may hold spaces.
        return ["", "", *text.rpartition(")")[2].split()]


@contextmanager
def serving(checkout: Path) -> Iterator[Server]:
    """The dashboard of a checkout with an empty store."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true",
            f"--server.port={port}", "--server.address=127.0.0.1",
        ]  # fmt: skip
        found = os.environ | {"ETP_STORE": f"{folder}/etp.sqlite", "PYTHONPATH": str(checkout)}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, cwd=checkout, env=found, **quiet)
        try:
            _wait(f"http://127.0.0.1:{port}/_stcore/health")
            yield Server(process, f"127.0.0.1:{port}")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(address: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=2) as answer:
                if answer.read() == b"ok":
                    return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit("the dashboard did not start")


@dataclass
class Answer:
    """What one rerun brought: seconds until the page was whole, bytes, and what went wrong."""

    seconds: float = 0.0
    bytes: int = 0
    errors: list[str] = field(default_factory=list)


class Visitor:
    """One session, as a browser keeps it."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._kept: set[str] = set()
        self.buttons: dict[str, str] = {}

    @classmethod
    async def enter(cls, server: Server) -> Visitor:
        """Open the websocket."""
        return cls(
            await connect(
                f"ws://{server.address}/_stcore/stream",
                subprotocols=["streamlit"],  # type: ignore[list-item]
                max_size=None,
                open_timeout=PATIENCE_S,
                ping_timeout=None,
                # What is counted is what the server makes, not what a proxy would leave of it.
                compression=None,
            )
        )

    async def leave(self) -> None:
        """Close it."""
        await self._connection.close()

    async def look(self, page: str, press: str | None = None, **query: str) -> Answer:
        """Ask for a page and wait until it is whole.

        Args:
            page: As its address names it.
            press: A button to press, by its label.
            **query: The rest of the address.
        """
        asked = BackMsg()
        state = asked.rerun_script
        state.page_name, state.query_string = page, urlencode(query)
        state.context_info.timezone, state.context_info.locale = "UTC", "en"
        state.context_info.url = f"http://localhost/{page}"
        state.context_info.color_scheme = "light"
        state.cached_message_hashes.extend(self._kept)
        if press is not None:
            widget = state.widget_states.widgets.add()
            widget.id, widget.trigger_value = self.buttons[press], True
        begin = time.monotonic()
        await self._connection.send(asked.SerializeToString())
        answer = Answer()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._until_whole(answer)
        except TimeoutError:
            answer.errors.append("no answer in time")
        answer.seconds = time.monotonic() - begin
        return answer

    async def _until_whole(self, answer: Answer) -> None:
        while True:
            body = await self._connection.recv(decode=False)
            answer.bytes += len(body)
            message = ForwardMsg.FromString(body)
            kind = message.WhichOneof("type")
            if message.metadata.cacheable and message.hash:
                self._kept.add(message.hash)
            if kind == "delta":
                self._read(message.delta, answer)
            elif kind == "script_finished":
                status = ForwardMsg.ScriptFinishedStatus.Name(message.script_finished)
                if status == "FINISHED_EARLY_FOR_RERUN":
                    continue
                if status not in ("FINISHED_SUCCESSFULLY", "FINISHED_FRAGMENT_RUN_SUCCESSFULLY"):
                    answer.errors.append(status)
                if status != "FINISHED_FRAGMENT_RUN_SUCCESSFULLY":
                    return

    def _read(self, delta: Delta, answer: Answer) -> None:
        if delta.WhichOneof("type") == "add_block":
            assert isinstance(delta.add_block, Block)
            return
        element = delta.new_element
        kind = element.WhichOneof("type")
        if kind == "button":
            self.buttons[element.button.label] = element.button.id
        elif kind == "exception" or (kind == "alert" and FAILED in element.alert.body):
            answer.errors.append(element.exception.message or element.alert.body)


@dataclass
class Costs:
    """What one page costs when nobody else is there."""

    first_bytes: int = 0
    first_s: float = 0.0
    new_view_s: float = 0.0
    warm_s: float = 0.0
    errors: list[str] = field(default_factory=list)


async def page_costs(server: Server, page: str) -> Costs:
    """Bytes of a first visit, and processor time of a view never seen and of one seen before."""
    costs = Costs()
    # What the process imports once is not the cost of a page.
    await _visit(server, page)
    visitor = await Visitor.enter(server)
    first = await visitor.look(page)
    costs.first_bytes, costs.first_s = first.bytes, first.seconds
    costs.errors += first.errors
    unseen = [{"at": at, "pick": pick} for at in "235" for pick in ("cg-sparse", "matrix")]
    costs.new_view_s = await _mean_processor_s(server, visitor, page, unseen, costs)
    costs.warm_s = await _mean_processor_s(server, visitor, page, [{}] * (WARM + 1), costs)
    await visitor.leave()
    return costs


async def _visit(server: Server, page: str) -> None:
    visitor = await Visitor.enter(server)
    await visitor.look(page)
    await visitor.leave()


async def _mean_processor_s(
    server: Server, visitor: Visitor, page: str, views: list[dict[str, str]], costs: Costs
) -> float:
    if not views[0]:
        await visitor.look(page)  # back from the last view
        views = views[1:]
    begin = server.processor_s()
    for query in views:
        costs.errors += (await visitor.look(page, **query)).errors
    # Streamlit tidies up after a page is whole; that is part of its cost.
    await asyncio.sleep(0.05)
    return (server.processor_s() - begin) / len(views)


@dataclass
class Crowd:
    """What many visitors waited for."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    megabytes: float = 0.0
    processor_s: float = 0.0
    """Of the server, while pages were counted."""

    def line(self) -> str:
        """Pages, median and 95 % of the waiting, errors, memory."""
        half, most = np.quantile(self.seconds, [0.5, 0.95])
        return (
            f"{len(self.seconds)} pages, p50 {half:.2f} s, p95 {most:.2f} s, "
            f"{1e3 * self.processor_s / len(self.seconds):.0f} ms of processor time a page, "
            f"{len(self.errors)} errors, {self.megabytes:.0f} MB"
        )


async def crowd(server: Server, visitors: int, duration_s: float, *, job: bool = False) -> Crowd:
    """Visitors look around for some time; before that, each page is shown once to one of them.

    Args:
        server: The dashboard.
        visitors: Sessions at once.
        duration_s: Seconds of looking around that count.
        job: Whether a comparison runs meanwhile.
    """
    for page in PAGES:
        await _visit(server, page)
    worker = None
    if job:
        worker = await Visitor.enter(server)
        await worker.look("", **JOB)
        await worker.look("", press="Run here", **JOB)
    found = Crowd()
    start = time.monotonic() + 10
    end = start + duration_s
    looking = [_look_around(server, n, start, end, found) for n in range(visitors)]
    await asyncio.gather(*looking, _counted(server, start, end, found))
    found.megabytes = server.megabytes()
    if worker is not None:
        await worker.leave()
    return found


async def _counted(server: Server, start: float, end: float, found: Crowd) -> None:
    await asyncio.sleep(start - time.monotonic())
    begin = server.processor_s()
    await asyncio.sleep(end - time.monotonic())
    found.processor_s = server.processor_s() - begin


async def _look_around(server: Server, number: int, start: float, end: float, found: Crowd) -> None:
    chance = random.Random(number)
    await asyncio.sleep(chance.uniform(0, 8))
    try:
        visitor = await Visitor.enter(server)
        while time.monotonic() < end:
            begin = time.monotonic()
            page, query = chance.choice(PAGES), _view(chance)
            answer = await visitor.look(page, **query)
            if begin >= start:
                found.seconds.append(answer.seconds)
            found.errors += answer.errors
            await asyncio.sleep(chance.uniform(*THINK_S))
        await visitor.leave()
    except (OSError, ConnectionError) as error:
        found.errors.append(str(error))


def _view(chance: random.Random) -> dict[str, str]:
    query = {}
    if chance.random() < 0.5:
        query["at"] = str(chance.randint(1, 6))
    if chance.random() < 0.3:
        query["pick"] = chance.choice(("cg-sparse", "gaunt-grid", "matrix"))
    return query


def measured(checkout: Path, arguments: argparse.Namespace) -> dict[str, str]:
    """Every line of the table, by its name."""
    lines: dict[str, str] = {}

    def say(name: str, value: str) -> None:
        lines[name] = value
        print(f"  {name}: {value}", file=sys.stderr, flush=True)

    with serving(checkout) as server:
        for page in PAGES:
            costs = asyncio.run(page_costs(server, page))
            note = "" if not costs.errors else f", {len(costs.errors)} errors"
            say(
                page or "compare",
                f"{costs.first_bytes / 1e6:.2f} MB, {1e3 * costs.new_view_s:.0f} ms new view, "
                f"{1e3 * costs.warm_s:.0f} ms warm{note}",
            )
        for visitors, job in [(number, False) for number in arguments.visitors] + [
            (number, True) for number in arguments.beside_a_job
        ]:
            found = asyncio.run(crowd(server, visitors, arguments.seconds, job=job))
            beside = " beside a running comparison" if job else ""
            say(f"{visitors} visitors{beside}", found.line())
            for error in sorted(set(found.errors))[:3]:
                print(f"    {error}", file=sys.stderr)
    return lines


def table(columns: dict[str, dict[str, str]]) -> str:
    """Markdown of both checkouts."""
    names = list(next(iter(columns.values())))
    lines = [
        f"| | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    lines += [
        f"| {name} | {' | '.join(found.get(name, '') for found in columns.values())} |"
        for name in names
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])  # type: ignore[union-attr]
    parser.add_argument("--before", type=Path, help="another checkout, measured first")
    parser.add_argument("--visitors", type=int, nargs="*", default=[10])
    parser.add_argument("--beside-a-job", type=int, nargs="*", default=[50])
    parser.add_argument("--seconds", type=float, default=60, help="of looking around")
    chosen = parser.parse_args(arguments)
    checkouts: dict[str, Path] = {"now": ROOT}
    if chosen.before is not None:
        checkouts = {"before": chosen.before.resolve(), **checkouts}
    columns = {}
    for name, checkout in checkouts.items():
        print(f"{name}: {checkout}", file=sys.stderr, flush=True)
        columns[name] = measured(checkout, chosen)
    load = Path("/proc/loadavg").read_text().split()[0]
    print(table(columns))
    print(f"\n{os.cpu_count()} cores, load at the end {load}. A page: bytes of a first visit;")
    print("processor time of the server for a view never seen and for one seen before.")


if __name__ == "__main__":
    main()

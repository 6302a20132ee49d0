"""What pages cost a server: processor time, bytes and waiting, over Streamlit's own protocol.

``python -m benchmarks.load`` starts the dashboard with an empty store and visits it as browsers do,
by websocket and protobuf messages, without drawing anything. ``--before CHECKOUT`` does the same
with another checkout first, so that both columns of the table come from one run on one machine.
An empty script is visited too: what Streamlit costs by itself, below which no page can be.

Visitors of a crowd read a page before they ask for the next one. Without a pause
(``--think 0 0``) each asks as soon as she is answered: then waiting times are the number of
visitors over the pages a second that the server makes, whatever the pages are, and say nothing of
how long somebody waits who looks at what she asked for.

Linux only: processor time and memory are read from ``/proc``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import numpy as np
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Delta_pb2 import Delta
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

from etp.analysis.comparison import comparisons
from etp.results.store import Store

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "", "layers", "scaling", "equivariance", "expressivity", "applications", "results", "gallery",
)  # fmt: skip
"""Pages as their addresses name them; the first is Compare."""
WARM = 10
"""Reruns that processor time is the mean of: the system counts it in steps of 10 ms."""
PATIENCE_S = 90.0
THINK_S = (2.0, 6.0)
"""How long a visitor looks at a page, at least and at most: a verdict and a chart are not read
faster, and who reads longer loads the server less."""
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
JOB = {"lmax": "1:4", "batch": "10000", "products": "cg-sparse,gaunt-grid,matrix,e3nn"}
EMPTY = "import streamlit as st\n\nst.write('nothing')\n"
FAILED = "could not be shown"


class Server:
    """The dashboard of a checkout, in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, store: Path) -> None:
        self.process, self.address, self.store = process, address, store

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
        store = Path(folder) / "etp.sqlite"
        environment = os.environ | {"ETP_STORE": str(store), "PYTHONPATH": str(checkout)}
        none = subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=none, stderr=none)
        try:
            _wait(f"http://127.0.0.1:{port}/_stcore/health")
            yield Server(process, f"127.0.0.1:{port}", store)
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
    """What one rerun brought: seconds until the page was whole, bytes, and what went wrong.

    Attributes:
        alerts: What boxes said.
    """

    seconds: float = 0.0
    bytes: int = 0
    errors: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)


class Visitor:
    """One session, as a browser keeps it.

    Attributes:
        buttons: Buttons of the page by their labels.
        polls: Parts of the page that ask for themselves again, each with its pause in seconds.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._kept: set[str] = set()
        self._page = self._query = ""
        self.buttons: dict[str, str] = {}
        self.polls: dict[str, float] = {}

    @classmethod
    async def enter(cls, address: str, cookie: str = "") -> Visitor:
        """Open the websocket.

        Args:
            address: Host and port.
            cookie: What a browser would send of the cookies that it was given.
        """
        return cls(
            await connect(
                f"ws://{address}/_stcore/stream",
                subprotocols=["streamlit"],  # type: ignore[list-item]
                additional_headers={"Cookie": cookie} if cookie else None,
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
        self._page, self._query = page, urlencode(query)
        asked = self._asked()
        if press is not None:
            widget = asked.rerun_script.widget_states.widgets.add()
            widget.id, widget.trigger_value = self.buttons[press], True
        return await self._answer(asked)

    async def poll(self, part: str) -> Answer:
        """Ask for a part of the page that asks for itself."""
        asked = self._asked()
        asked.rerun_script.fragment_id, asked.rerun_script.is_auto_rerun = part, True
        return await self._answer(asked)

    async def watch(self) -> list[Answer]:
        """Stay on a page for as long as a part of it asks for itself."""
        answers = []
        while self.polls:
            part, pause_s = next(iter(self.polls.items()))
            await asyncio.sleep(pause_s)
            answers.append(await self.poll(part))
        return answers

    async def clear_caches(self) -> None:
        """What a key does where the toolbar allows it; the message can be sent in any case."""
        asked = BackMsg()
        asked.clear_cache = True
        await self._connection.send(asked.SerializeToString())

    def _asked(self) -> BackMsg:
        asked = BackMsg()
        state = asked.rerun_script
        state.page_name, state.query_string = self._page, self._query
        state.context_info.timezone, state.context_info.locale = "UTC", "en"
        state.context_info.url = f"http://localhost/{self._page}"
        state.context_info.color_scheme = "light"
        state.cached_message_hashes.extend(self._kept)
        return asked

    async def _answer(self, asked: BackMsg) -> Answer:
        part = bool(asked.rerun_script.fragment_id)
        begin = time.monotonic()
        await self._connection.send(asked.SerializeToString())
        answer = Answer()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._until_whole(answer, part=part)
        except TimeoutError:
            answer.errors.append("no answer in time")
        answer.seconds = time.monotonic() - begin
        return answer

    async def _until_whole(self, answer: Answer, *, part: bool) -> None:
        while True:
            body = await self._connection.recv(decode=False)
            answer.bytes += len(body)
            message = ForwardMsg.FromString(body)
            kind = message.WhichOneof("type")
            if message.metadata.cacheable and message.hash:
                self._kept.add(message.hash)
            if kind == "new_session" and not part:
                self.polls.clear()
            elif kind == "auto_rerun":
                self.polls[message.auto_rerun.fragment_id] = message.auto_rerun.interval
            elif kind == "page_info_changed":
                self._query = message.page_info_changed.query_string
            elif kind == "delta":
                self._read(message.delta, answer)
            elif kind == "script_finished":
                status = ForwardMsg.ScriptFinishedStatus.Name(message.script_finished)
                if status == "FINISHED_EARLY_FOR_RERUN":
                    part = False  # what follows is the whole page
                    continue
                if status == "FINISHED_FRAGMENT_RUN_SUCCESSFULLY":
                    if part:
                        return
                    continue
                if status != "FINISHED_SUCCESSFULLY":
                    answer.errors.append(status)
                return

    def _read(self, delta: Delta, answer: Answer) -> None:
        if delta.WhichOneof("type") == "add_block":
            return
        element = delta.new_element
        kind = element.WhichOneof("type")
        if kind == "button":
            self.buttons[element.button.label] = element.button.id
        elif kind == "exception":
            answer.errors.append(element.exception.message)
        elif kind == "alert":
            answer.alerts.append(element.alert.body)
            if FAILED in element.alert.body:
                answer.errors.append(element.alert.body)


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
    visitor = await Visitor.enter(server.address)
    first = await visitor.look(page)
    costs.first_bytes, costs.first_s = first.bytes, first.seconds
    costs.errors += first.errors
    unseen = [{"at": at, "pick": pick} for at in "235" for pick in ("cg-sparse", "matrix")]
    costs.new_view_s = await _mean_processor_s(server, visitor, page, unseen, costs)
    costs.warm_s = await _mean_processor_s(server, visitor, page, [{}] * (WARM + 1), costs)
    await visitor.leave()
    return costs


async def _visit(server: Server, page: str) -> None:
    visitor = await Visitor.enter(server.address)
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
    counting: bool = True

    def line(self) -> str:
        """Pages, median and 95 % of the waiting, errors, memory."""
        half, most = np.quantile(self.seconds, [0.5, 0.95])
        return (
            f"{len(self.seconds)} pages, p50 {half:.2f} s, p95 {most:.2f} s, "
            f"{1e3 * self.processor_s / len(self.seconds):.0f} ms of processor time a page, "
            f"{len(self.errors)} errors, {self.megabytes:.0f} MB"
        )


async def crowd(
    server: Server, visitors: int, duration_s: float, think_s: tuple[float, float], job: bool
) -> Crowd:
    """Visitors look around for some time; before that, each page is shown once to one of them.

    Args:
        server: The dashboard.
        visitors: Sessions at once.
        duration_s: Seconds of looking around that count.
        think_s: Least and most seconds that a visitor looks at a page.
        job: Whether a comparison is begun before, watched by one more visitor until it ends.
    """
    for page in PAGES:
        await _visit(server, page)
    watching = await begun(server) if job else None
    waits, over = Crowd(), asyncio.Event()
    start = time.monotonic() + 10
    looking = [_look_around(server, n, start, over, think_s, waits) for n in range(visitors)]
    crowding = asyncio.gather(*looking)
    await asyncio.sleep(start - time.monotonic())
    before = server.processor_s()
    await asyncio.sleep(duration_s)
    waits.processor_s = server.processor_s() - before
    waits.megabytes = server.megabytes()
    waits.counting = False
    if watching is not None:
        await watching
    over.set()
    await crowding
    return waits


async def begun(server: Server) -> asyncio.Task[None]:
    """Begin a comparison; what is returned ends when it does."""
    owner = await Visitor.enter(server.address)
    await owner.look("", **JOB)
    await owner.look("", press="Run here", **JOB)

    async def watched() -> None:
        await owner.watch()
        await owner.leave()

    return asyncio.create_task(watched())


async def _look_around(
    server: Server,
    number: int,
    start: float,
    over: asyncio.Event,
    think_s: tuple[float, float],
    waits: Crowd,
) -> None:
    chance = random.Random(number)
    await asyncio.sleep(chance.uniform(0, 8))
    try:
        visitor = await Visitor.enter(server.address)
        while not over.is_set():
            begin = time.monotonic()
            page, query = chance.choice(PAGES), _view(chance)
            answer = await visitor.look(page, **query)
            if begin >= start and waits.counting:
                waits.seconds.append(answer.seconds)
            waits.errors += answer.errors
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), chance.uniform(*think_s))
        await visitor.leave()
    except (OSError, ConnectionError) as error:
        waits.errors.append(str(error))


def _view(chance: random.Random) -> dict[str, str]:
    query = {}
    if chance.random() < 0.5:
        query["at"] = str(chance.randint(1, 6))
    if chance.random() < 0.3:
        query["pick"] = chance.choice(("cg-sparse", "gaunt-grid", "matrix"))
    return query


class Told(NamedTuple):
    """What a run says of a product: the word, the ratio's logarithm and its interval."""

    word: str
    estimate: float
    low: float
    high: float


def verdicts(server: Server) -> dict[tuple[int, str], Told]:
    """What the last run of a server says of each product at each size."""
    store = Store(server.store)
    return {
        (comparison.problem.lmax, product): Told(v.word, v.estimate, v.low, v.high)
        for comparison in comparisons(store.rows(job=store.jobs()[-1].id))
        for product, v in comparison.judgement.verdicts.items()
    }


def unchanged(alone: dict[tuple[int, str], Told], beside: dict[tuple[int, str], Told]) -> str:
    """What visitors did to the verdicts of a run, beside those of one without visitors."""
    both = [(alone[key], beside[key]) for key in alone if key in beside]
    same = sum(verdict.word == other.word for verdict, other in both)
    against = sum({verdict.word, other.word} == {"faster", "slower"} for verdict, other in both)
    within = sum(other.low <= verdict.estimate <= other.high for verdict, other in both)
    return (
        f"{same} of {len(alone)} verdicts as without visitors, {against} the other way round; "
        f"{within} of its ratios within the intervals told beside them"
    )


async def _alone(server: Server) -> None:
    await (await begun(server))


def measured(checkout: Path, arguments: argparse.Namespace) -> dict[str, str]:
    """Every line of the table, by its name."""
    lines: dict[str, str] = {}

    def say(name: str, value: str) -> None:
        lines[name] = value
        print(f"  {name}: {value}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "app.py").write_text(EMPTY)
        shutil.copytree(checkout / ".streamlit", Path(folder) / ".streamlit")
        with serving(Path(folder)) as server:
            say("an empty script", _costs(server, ""))
    with serving(checkout) as server:
        for page in PAGES:
            say(page or "compare", _costs(server, page))
        say("first paint (words) in a browser, s", first_paints(server))
        alone: dict[tuple[int, str], Told] = {}
        if arguments.beside_a_job:
            asyncio.run(_alone(server))
            alone = verdicts(server)
        for visitors, job in [(number, False) for number in arguments.visitors] + [
            (number, True) for number in arguments.beside_a_job
        ]:
            think = tuple(arguments.think)
            waits = asyncio.run(crowd(server, visitors, arguments.seconds, think, job))
            name = f"{visitors} visitors{' beside a running comparison' if job else ''}"
            say(name, waits.line())
            if job:
                say(f"that comparison, beside {visitors}", unchanged(alone, verdicts(server)))
            for error in sorted(set(waits.errors))[:3]:
                print(f"    {error}", file=sys.stderr)
    return lines


def first_paints(server: Server) -> str:
    """Seconds until a browser that was never here paints anything, and shows what a page says.

    The first paint is the frame that comes with the document (:mod:`etp.ui.document`).
    """
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        return "not measured: it takes chromium and playwright"
    lines = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for page in PAGES:
            context = browser.new_context()
            tab = context.new_page()
            tab.goto(f"http://{server.address}/{page}")
            tab.wait_for_selector("h3", timeout=1e3 * PATIENCE_S)
            said_ms = tab.evaluate("performance.now()")
            painted_ms = tab.evaluate(
                "performance.getEntriesByName('first-contentful-paint')[0].startTime"
            )
            lines.append(f"{page or 'compare'} {painted_ms / 1e3:.2f} ({said_ms / 1e3:.2f})")
            context.close()
        browser.close()
    return ", ".join(lines)


def _costs(server: Server, page: str) -> str:
    costs = asyncio.run(page_costs(server, page))
    note = "" if not costs.errors else f", {len(costs.errors)} errors"
    return (
        f"{costs.first_bytes / 1e6:.2f} MB in {costs.first_s:.2f} s, "
        f"{1e3 * costs.new_view_s:.0f} ms new view, {1e3 * costs.warm_s:.0f} ms warm{note}"
    )


def table(columns: dict[str, dict[str, str]]) -> str:
    """Markdown of both checkouts."""
    names = list(next(iter(columns.values())))
    lines = [
        f"| | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    lines += [
        f"| {name} | {' | '.join(cells.get(name, '') for cells in columns.values())} |"
        for name in names
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--before", type=Path, help="another checkout, measured first")
    parser.add_argument("--visitors", type=int, nargs="*", default=[10])
    parser.add_argument("--beside-a-job", type=int, nargs="*", default=[50])
    parser.add_argument("--seconds", type=float, default=60, help="of looking around")
    parser.add_argument(
        "--think",
        type=float,
        nargs=2,
        default=THINK_S,
        metavar=("LEAST", "MOST"),
        help="seconds that a visitor looks at a page (%(default)s); 0 0 asks without a pause",
    )
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
    print(f"\n{os.cpu_count()} cores, load at the end {load}. A page: bytes of a first visit")
    print(
        "and seconds until it was whole; processor time of the server for a view never seen and for"
    )
    print("one seen before.")


if __name__ == "__main__":
    main()

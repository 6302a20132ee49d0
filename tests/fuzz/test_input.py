"""Anything that anybody can send: it is taken or refused in one sentence, and does nothing else.

``ETP_FUZZ=100000`` runs that many cases of each, and holds each to a second of processor time.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import string
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

from hypothesis import example, given, settings
from hypothesis import strategies as st

from etp.cli import advise, commands, dashboard, experiments
from etp.cli.main import main
from etp.experiments import sampling
from etp.irreps import parse, parse_terms
from etp.kernels.on_cpu import build, standalone
from etp.results import formats, imports
from etp.results.rows import RowError
from etp.results.store import Store
from etp.run import case
from etp.ui.settings import Settings
from tests import make
from tests.fuzz.slow import processor_s

LONG = int(os.environ.get("ETP_FUZZ", "0"))
LIMIT_S = 1.0
many = settings(max_examples=LONG or 60)

IRREPS = st.one_of(
    st.text(alphabet="0123456789xeo+ -*,()", max_size=40),
    st.lists(st.from_regex(r"\A[0-9]{1,12}x[0-9]{1,6}[eo]\Z"), max_size=5).map("+".join),
    st.text(max_size=30),
)
ODD = st.one_of(
    st.sampled_from(["1e400", "NaN", "-1", "\ud800", "\0", "9" * 400, "[" * 2000, "0:999999999",
                     "../../x", "=1+1", "1" * 5000, "cpu", "MIMO", "float64", "", "١"]),
    st.text(max_size=20), st.integers().map(str), st.floats().map(str),
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)


def refusal(work: Callable[[], object], *errors: type[Exception]) -> str:
    """Do it, in the long form within a second of processor time; why it was refused, or ""."""
    told = ""

    def attempt() -> None:
        nonlocal told
        try:
            work()
        except errors as error:
            told = str(error)

    if LONG:
        assert processor_s(attempt, LIMIT_S) < LIMIT_S
    else:
        attempt()
    assert len(told) < 1000
    return told


@many
@given(IRREPS)
@example("9" * 5000 + "x0e")
@example("1x" + "9" * 5000 + "e")
def test_irreps(text):
    for read in (parse_terms, parse):
        assert "\n" not in refusal(partial(read, text), ValueError)


@many
@given(st.dictionaries(st.sampled_from(sorted(vars(Settings()))) | ODD, ODD, max_size=6))
def test_addresses(query):
    def work() -> None:
        chosen, errors = Settings.from_query(query)
        assert all("\n" not in error for error in errors)
        again, none = Settings.from_query(chosen.to_query())
        assert (again, none) == (chosen, [])

    refusal(work)


COMMANDS = ("products", "measure", "sweep", "compare", "import", "export", "runs", "delete",
            "prune", "backup", "certificates", "advise", "layers", "app", "experiment",
            "build-kernels", "no-such")  # fmt: skip
WORDS = st.one_of(
    st.sampled_from([*(f"--{name}" for name in (
        "lmax", "setting", "irreps1", "irreps2", "batch", "channels", "dtype", "device", "product",
        "products", "rounds", "budget", "outputs", "rows", "days", "undo", "run", "json",
        "out", "html", "site", "store", "layer", "model", "share", "edges", "kind", "order",
        "port", "address", "seeds", "counts", "elements", "weights", "direction", "processes",
        "checkpoints", "structures", "powers", "march",
    )), "expressivity", "runtime", "cg-sparse", "a.jsonl", "cg-sparse,foo", "1:3", "edge", "power",
        "tetris", "potential", "step-time", "sample", "nequix", "mace-large", "in/x"]),
    # A path that is asked for is written: here below one folder.
    ODD.filter(lambda text: "/" not in text),
)  # fmt: skip


def _not_here(*_: object, **__: object) -> NoReturn:
    raise RuntimeError("not measured, built or started here")


@settings(many, max_examples=LONG or 40)
@given(st.sampled_from(COMMANDS), st.lists(WORDS, max_size=6))
def test_commands(tmp_path, monkeypatch, capsys, command, words):
    inside = tmp_path / "inside"
    inside.mkdir(exist_ok=True)
    monkeypatch.chdir(inside)
    monkeypatch.setenv("ETP_STORE", str(inside / "etp.sqlite"))
    monkeypatch.setattr(case, "measure_one", lambda *_: make.row())
    monkeypatch.setattr(commands, "sweep", lambda *_, **__: None)
    monkeypatch.setattr(experiments, "_run", lambda *_: [])
    for place, name in ((advise, "compared"), (sampling, "sample"), (build, "library"),
                        (standalone, "write"), (dashboard, "command")):  # fmt: skip
        monkeypatch.setattr(place, name, _not_here)

    def work() -> None:
        try:
            status = main([command, *words])
        except SystemExit as ended:
            status = int(ended.code or 0)
        assert status in (0, 1, 2)

    refusal(work)
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert "Error:" not in told
    assert {path.name for path in tmp_path.iterdir()} <= {"inside"}


def _file(name: str, body: bytes) -> tuple[str, bytes]:
    return name, body


ROW = json.loads(make.row().to_json())
CHANGED = st.builds(
    lambda field, value: _file("a.jsonl", json.dumps(ROW | {field: value}).encode()),
    st.sampled_from(sorted(ROW)), JSON,
)  # fmt: skip
INSIDE = st.builds(
    lambda part, field, value: _file(
        "a.jsonl", json.dumps(ROW | {part: (ROW[part] or {}) | {field: value}}).encode()
    ),
    st.sampled_from(["problem", "result", "environment"]),
    st.sampled_from([*ROW["problem"], *ROW["result"], *ROW["environment"], "samples_s"]), JSON,
)  # fmt: skip
RAW = st.builds(
    _file,
    st.sampled_from(["a.jsonl", "a.json", "a.csv", "../a.json", "\0.json", ""]),
    st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode()) | ODD.map(
        lambda t: t.encode("utf-8", "surrogatepass")),
)  # fmt: skip


def _bomb() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", b"0" * 10_000_000)
    return made.getvalue()


HUGE = json.dumps(ROW).replace("0.001", "1e400")
SURROGATE = json.dumps(ROW | {"environment": {"device_name": "\ud800"}})


@many
@given(CHANGED | INSIDE | RAW)
@example(("a.zip", _bomb()))
@example(("a.jsonl", gzip.compress(b"0" * 10_000_000)))
@example(("a.json", b"[" * 100_000))
@example(("a.jsonl", HUGE.encode()))
@example(("a.jsonl", SURROGATE.encode()))
@example(("a.jsonl", b"\0" * 1000))
@example(("a.jsonl", b'{"product": "' + b"x" * 3_000_000 + b'"}'))
@example(("a.csv", b"a,b\n" + b"1," * 100_000))
def test_uploads(tmp_path, file):
    name, body = file
    store = Store(tmp_path / "etp.sqlite")

    def work() -> None:
        rows = formats.read_files({name: body})
        store.add_imports(imports.adopted(rows, name))

    refusal(work, formats.FormatError, RowError)
    # What was taken can be written again, and nothing else was.
    json.dumps([dict(row) for row in store.rows(samples=True)], allow_nan=False)
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {"etp.sqlite"}


@many
@given(st.dictionaries(st.text(alphabet=string.ascii_lowercase, min_size=1, max_size=8),
                       st.binary(max_size=60) | JSON.map(lambda v: json.dumps(v).encode()),
                       max_size=3))  # fmt: skip
def test_folders(tmp_path_factory, files):
    folder = Path(tmp_path_factory.mktemp("upload"))
    for name, body in files.items():
        (folder / f"{name}.json").write_bytes(body)
    (folder / "deep.json").mkdir()

    assert refusal(partial(formats.read_path, folder), formats.FormatError, RowError)

"""What is asked of a card, with one made up for the test: the CPU under a queue of its own."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from etp import measure, products
from etp.measure import card as cards
from etp.measure.card import device_state
from etp.measure.runtime import make_call
from etp.measure.state import State
from etp.problem import Problem
from etp.results.rows import Row
from etp.run import case as cases
from etp.run import environment


class Moment:
    def __init__(self, fake: Fake) -> None:
        self._fake = fake

    def record(self) -> None:
        self._fake.events += 1
        if self._fake.gone_after is not None and self._fake.events > self._fake.gone_after:
            raise RuntimeError(self._fake.says)

    def elapsed_time(self, end: Moment) -> float:
        return self._fake.milliseconds


class Fake:
    milliseconds, says = 2.0, "CUDA error: device is lost"

    def __init__(self, gone_after: int | None = None) -> None:
        self.events, self.waited, self.gone_after = 0, 0, gone_after

    def synchronise(self) -> None:
        self.waited += 1

    def event(self) -> Moment:
        return Moment(self)

    def graph(self, run: Callable[[], object]) -> Callable[[], object]:
        return run

    def cache_bytes(self) -> int:
        return 1 << 10

    def state(self, load: float | None) -> State:
        return State(1410.0, 60.0, ("the power limit",), load)

    def driver(self) -> str:
        return "570.1"


@pytest.fixture
def fake(monkeypatch) -> Fake:
    made = Fake()
    monkeypatch.setitem(cards.MAKERS, "cpu", lambda device: made)
    return made


def run(names: tuple[str, ...], **changes) -> list[Row]:
    problem = Problem.of_setting("MIMO", 1, batch=8)
    case = cases.Case(problem, names, rounds=4, budget_s=0.5, elements=2, memory=False,
                      questions=("agreement", "equivariance"), **changes)  # fmt: skip
    return [row for row in cases.run(case.as_dict()) if isinstance(row, Row)]


def test_times_are_those_between_events_and_the_host_waits(fake):
    tp = products.get("cg-sparse")("0e+1o", "0e+1o")
    found = measure.measure_runtime(tp, batch=4)
    # A group of calls shares two events.
    assert 0 < found.median_s <= 2e-3
    assert fake.waited >= fake.events // 2 > 0


def test_a_cold_cache_is_twice_the_cards(fake):
    tp = products.get("cg-sparse")("0e+1o", "0e+1o")
    call = make_call(tp, torch.randn(2, 4), torch.randn(2, 4), cache="cold")
    assert call.prepare is not None
    emptied = call.prepare()
    assert isinstance(emptied, torch.Tensor)
    assert emptied.numel() == 2 * fake.cache_bytes()


def test_what_holds_a_card_down_is_in_its_rows(fake):
    assert device_state("cpu").slowed_by == ("the power limit",)
    (row,) = [r for r in run(("cg-sparse",)) if r.measure == "runtime" and
              r.measured.get("role") == "product"]  # fmt: skip
    assert row.measured["state_after"]["slowed_by"] == ["the power limit"]


@pytest.mark.parametrize("says", ["CUDA error: device is lost", "CUDA out of memory: tried 2 GiB"])
def test_a_card_that_vanishes_or_is_full_gives_rows_with_the_reason(fake, says):
    fake.gone_after, fake.says = 0, says
    rows = run(("cg-sparse", "cg-dense"))
    assert {r.measure for r in rows if r.status == "ok"} >= {"agreement", "equivariance"}
    lost = [r for r in rows if r.measure == "runtime"]
    assert {r.product for r in lost} == {"cg-sparse", "cg-dense"}
    assert all(r.status == "failed" and says in str(r.reason) for r in lost)


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError, RuntimeError])
def test_a_card_too_full_for_its_roofs_keeps_the_times_and_the_next_case_runs(
    fake, monkeypatch, error
):
    def full(*_):
        raise error("CUDA out of memory: tried 1 GiB")

    with monkeypatch.context() as patched:
        patched.setattr(measure, "roofline", full)
        rows = run(("cg-sparse",), roofs=True)
    assert [r.status for r in rows if r.measure == "runtime"][:1] == ["ok"]
    (roof,) = [r for r in rows if r.measure == "roofline"]
    assert (roof.product, roof.status) == ("device", "failed")
    assert "out of memory" in str(roof.reason)
    assert all(r.status == "ok" for r in run(("cg-sparse",)) if r.measure == "runtime")


def test_other_types_of_device_have_no_queue():
    assert cards.card("cpu") is None
    assert isinstance(cards.card("cuda:1"), cards.Cuda)


def nvml(answer: str | bytes | None) -> SimpleNamespace:
    """What stands in for NVML; without an answer it does not find the driver."""

    def begin() -> None:
        if answer is None:
            raise LookupError("driver not loaded")

    return SimpleNamespace(
        NVMLError=LookupError, nvmlInit=begin, nvmlSystemGetDriverVersion=lambda: answer
    )


@pytest.mark.parametrize(("answer", "driver"), [("570.1", "570.1"), (b"535.2", "535.2"),
                                                (None, None)])  # fmt: skip
def test_the_driver_is_asked_of_nvml_and_no_program_is_run(answer, driver, monkeypatch):
    monkeypatch.setattr(cards, "find_spec", lambda name: name)
    monkeypatch.setattr(cards, "import_module", lambda name: nvml(answer))
    assert cards.Cuda(torch.device("cuda:0")).driver() == driver
    monkeypatch.setattr(cards, "find_spec", lambda name: None)
    assert cards.Cuda(torch.device("cuda:0")).driver() is None


def test_the_manifest_of_a_card_comes_through_the_same_interface(fake, monkeypatch):
    environment._driver.cache_clear()
    monkeypatch.setitem(cards.MAKERS, "cuda", lambda device: fake)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A card")
    try:
        found = environment.environment("cuda:0")
    finally:
        environment._driver.cache_clear()
    assert (found["device_name"], found["driver"]) == ("A card", "570.1")

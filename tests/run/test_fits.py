"""What cannot fit is refused before it is run, with what fits."""

from __future__ import annotations

import pytest

from etp.problem import Problem
from etp.results.store import Store
from etp.run import devices, environment
from etp.run.case.case import SHARE, check_fits, needed_bytes
from etp.run.config import LimitError, Limits, TooLargeError
from etp.run.runner import Runner
from etp.text import bytes_text, count_text
from tests.make import MIMO

GB = 10**9


@pytest.fixture
def two_gb(monkeypatch):
    """A processor and a GPU with 2 GB each."""
    monkeypatch.setattr(environment, "available_bytes", lambda: 2 * GB)
    monkeypatch.setattr(devices, "_cuda", lambda: {"cuda:0": ("a GPU", 2 * GB)})


@pytest.mark.parametrize("kind", ["pair", "edge", "convolution"])
@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_the_batch_that_is_named_fits_and_no_much_larger_one_does(two_gb, kind, device):
    problem = Problem.of_irreps("16x0e+16x1o", "0e+1o" if kind != "pair" else "16x0e+16x1o",
                                kind=kind, batch=10_000_000, device=device)  # fmt: skip
    with pytest.raises(TooLargeError, match=f"2.00 GB are free on {device}") as error:
        check_fits(problem)
    fits = error.value.batch
    assert fits is not None
    check_fits(problem.at(batch=fits))
    assert needed_bytes(problem.at(batch=int(1.01 * fits) + 1)) > SHARE * 2 * GB


def test_large_numbers_are_said_as_people_read_them(two_gb):
    large = Problem.of_setting("MIMO", 10, channels=512, batch=1_000_000)
    with pytest.raises(TooLargeError) as error:
        check_fits(large)
    assert "TB and 2.00 GB" in str(error.value)
    assert (
        f"batch {count_text(1_000_000)} needs about {bytes_text(needed_bytes(large), 3)} and"
        in (str(error.value))
    )


def test_where_no_batch_helps_none_is_named(two_gb):
    huge = Problem.of_setting("MIMO", 11, channels=4096, batch=1)
    with pytest.raises(TooLargeError, match="use fewer channels or a smaller lmax") as error:
        check_fits(huge)
    assert error.value.batch is None


def test_a_device_that_says_nothing_refuses_nothing(monkeypatch):
    monkeypatch.setattr(devices, "free_bytes", lambda device: None)
    check_fits(MIMO.at(batch=10_000_000))


def test_a_container_has_what_it_is_allowed(tmp_path):
    assert environment._allowed_bytes(tmp_path) is None
    for name, text in (
        ("max", "max\n"),
        ("current", "300\n"),
        ("stat", "anon 200\ninactive_file 50\n"),
    ):
        (tmp_path / f"memory.{name}").write_text(text)
    assert environment._allowed_bytes(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert environment._allowed_bytes(tmp_path) == 750


def test_the_runner_takes_nothing_that_cannot_fit(two_gb, tmp_path):
    store = Store(tmp_path / "etp.sqlite")
    runner = Runner(store, devices=["cpu"], limits=Limits(batch=20_000_000))
    too_large = {"problem": MIMO.at(batch=10_000_000).as_dict(), "products": ["cg-sparse"]}
    with pytest.raises(TooLargeError):
        runner.submit("t", [too_large])
    assert store.jobs() == []
    runner.close()


def test_what_a_limit_allows_is_named():
    with pytest.raises(LimitError) as error:
        Limits(batch=9).check([{"problem": MIMO.at(batch=10).as_dict()}])
    assert error.value.batch == 9

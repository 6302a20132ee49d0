from __future__ import annotations

import pytest

from etp.run.config import LimitError, Limits, limits
from tests.make import MIMO


def case(**changes):
    return {"problem": MIMO.at(**changes).as_dict(), "products": ["a"]}


def test_nothing_is_limited_without_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert limits({}) == Limits()


def test_variables_go_over_the_file(tmp_path):
    path = tmp_path / "etp.toml"
    path.write_text("[limits]\nlmax = 4\nbatch = 1000\n")
    read = limits({"ETP_CONFIG": str(path), "ETP_LIMITS_BATCH": "50"})
    assert read == Limits(lmax=4, batch=50)


@pytest.mark.parametrize(
    ("text", "match"),
    [("[limits]\nlmx = 4", "no 'lmx'"), ("[limits]\nlmax = -1", "above 0"), ("x =", "TOML"),
     ("limits = 3", "table"), ("[limit]\nlmax = 4", "must hold only access and limits"),
     ("[limits]\nlmax = '\u00b2'", "above 0"), ("[limits]\nlmax = true", "above 0")],
)  # fmt: skip
def test_a_wrong_file_is_named(tmp_path, text, match):
    path = tmp_path / "etp.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=match) as error:
        limits({"ETP_CONFIG": str(path)})
    assert str(path) in str(error.value)


def test_a_file_that_is_named_and_not_there_is_no_server_without_limits(tmp_path):
    with pytest.raises(ValueError, match="ETP_CONFIG must name a file that is there"):
        limits({"ETP_CONFIG": str(tmp_path / "etp.toml")})


def test_what_is_too_large_is_refused_with_what_fits():
    with pytest.raises(LimitError, match=r"batch .* 9 .* got 10"):
        Limits(batch=9).check([case(batch=10)])
    with pytest.raises(LimitError, match="lmax"):
        Limits(lmax=1).check([case()])
    size = MIMO.at(batch=1000).size().bytes
    with pytest.raises(LimitError, match="batch 500 fits"):
        Limits(bytes=size // 2).check([case(batch=1000)])
    with pytest.raises(LimitError, match="cases"):
        Limits(cases=1).check([case(), case()])
    with pytest.raises(LimitError, match="jobs_per_hour"):
        Limits(jobs_per_hour=2).check_rate(2)
    Limits(jobs_per_hour=2).check_rate(1)

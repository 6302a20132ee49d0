"""Every command and snippet that is printed is one that runs and asks for the same."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from etp.cli import commands
from etp.cli.main import main
from etp.options import declared
from etp.problem import Options, Problem
from etp.run import devices
from etp.ui import plans
from etp.ui.settings import CUSTOM, Settings

IRREPS = st.lists(
    st.builds("{}{}".format, st.integers(0, 3), st.sampled_from("eo")),
    min_size=1, max_size=3, unique=True,
).map("+".join)  # fmt: skip
OPTIONS = {
    name: st.sampled_from(about.choices) if about.choices
    else st.integers(max(about.low, 1), min(about.high or 1, 3000))
    for name, about in declared(Options).items()
    if not about.gpu_only
}  # fmt: skip
SETTINGS = st.builds(
    Settings,
    setting=st.sampled_from(["SISO", "SIMO", "MIMO", CUSTOM]),
    lmax=st.tuples(st.integers(0, 5), st.integers(0, 5)).map(sorted).map(tuple),
    irreps1=IRREPS,
    irreps2=IRREPS,
    keep=st.one_of(st.just(""), IRREPS),
    products=st.lists(st.sampled_from(["cg-sparse", "gaunt-grid", "matrix", "so2"]), min_size=1,
                      max_size=3, unique=True).map(tuple),
    compiled=st.sampled_from(["no", "also"]),
    axis=st.sampled_from(["lmax", "batch", "channels"]),
    batches=st.lists(st.integers(1, 1000), min_size=2, max_size=4, unique=True).map(sorted)
    .map(tuple),
    channel_counts=st.lists(st.integers(1, 8), min_size=2, max_size=4, unique=True).map(sorted)
    .map(tuple),
    **OPTIONS,
)  # fmt: skip


@pytest.fixture
def swept(monkeypatch) -> list[tuple[Problem, tuple[str, ...]]]:
    """Problems and products that the command line would measure, with a GPU at hand."""
    monkeypatch.setattr(devices, "check_device", lambda device: None)
    made: list[tuple[Problem, tuple[str, ...]]] = []
    monkeypatch.setattr(
        commands,
        "sweep",
        lambda cases, *_, **__: made.extend((c.problem, c.products) for c in cases),
    )
    return made


def asked(command: str, swept: list[tuple[Problem, tuple[str, ...]]]) -> list[Problem]:
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "etp", "sweep"]
    swept.clear()
    assert main(words[3:]) == 0, command
    return [problem for problem, _ in swept]


@given(chosen=SETTINGS)
@hypothesis_settings(max_examples=120)
def test_a_printed_command_asks_for_the_same_problems_of_the_same_products(swept, chosen):
    try:
        problems = chosen.problems()
    except ValueError:
        with pytest.raises(ValueError, match=r":|must"):
            chosen.command()
        return
    assert asked(chosen.command(), swept) == problems
    assert {names for _, names in swept} == {chosen.names()}


@given(chosen=SETTINGS, device=st.sampled_from(["cuda:0", "cuda:12"]), exact=st.booleans())
@hypothesis_settings(max_examples=60)
def test_what_is_printed_for_a_gpu_names_its_device_and_its_matrix_products(
    swept, chosen, device, exact
):
    matmul = "exact" if exact or chosen.dtype != "float32" else "tf32"
    chosen = chosen.with_(devices=(device,), matmul=matmul)
    try:
        problems = chosen.problems()
    except ValueError:
        return
    assert asked(chosen.command(), swept) == problems
    code = chosen.snippet("cg-sparse+compile")
    compile(code, "snippet", "exec")
    assert ('set_float32_matmul_precision("high")' in code) is (matmul == "tf32")
    assert f"device={device!r}" in code


@given(chosen=SETTINGS)
@hypothesis_settings(max_examples=80)
def test_the_command_of_a_sweep_does_too(swept, chosen):
    try:
        problems = plans.scaling_problems(chosen)
    except ValueError:
        return
    assert asked(plans.scaling_command(chosen), swept) == problems


@given(chosen=SETTINGS)
@hypothesis_settings(max_examples=80)
def test_printed_python_is_python_and_names_every_option(chosen):
    try:
        problem = chosen.problems()[-1]
    except ValueError:
        return
    code = chosen.snippet("cg-sparse")
    compile(code, "snippet", "exec")
    for value in (problem.direction, problem.weights, problem.cache, problem.device):
        assert repr(value) in code
    assert f"batch={problem.batch}" in code
    assert f"seed={problem.seed}" in code
    threads = f"torch.set_num_threads({problem.threads})"
    assert (threads in code) is (problem.threads is not None)


ONE_ROUND = """
from functools import partial
from etp import measure
measure.measure_runtime = partial(measure.measure_runtime, rounds=1)
"""


def test_printed_python_runs_for_random_settings():
    """In one process, a round each: what it takes is importing torch, and caches made cold."""
    codes: list[str] = []

    @given(chosen=SETTINGS)
    @hypothesis_settings(max_examples=25)
    def collect(chosen: Settings) -> None:
        small = chosen.with_(batch=4, channels=1, lmax=(0, min(chosen.lmax[1], 2)), compiled="no")
        if small.dtype == "bfloat16":
            small = small.with_(dtype="float32")
        try:
            codes.append(small.snippet("cg-sparse"))
        except ValueError:
            return

    collect()
    whole = ONE_ROUND + "".join(f"exec({code!r})\n" for code in dict.fromkeys(codes))
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(codes) > 5


@pytest.mark.parametrize(
    "query",
    [
        {"products": "cg-sparse;touch x"}, {"products": "$(touch x)"}, {"products": "a`b`"},
        {"products": "-rf"}, {"baseline": 'x")\nimport os'}, {"pick": "a;b"}, {"devices": "a b"},
        {"job": "../x"}, {"checks": "<b>"}, {"products": "a'b"}, {"products": "x" * 65},
    ],
)  # fmt: skip
def test_what_a_shell_or_python_would_read_as_more_is_no_name(query):
    settings, (error,) = Settings.from_query(query)
    assert settings == Settings()
    assert error.startswith(f"address: {next(iter(query))} must")


def test_names_that_get_past_are_quoted_all_the_same():
    chosen = Settings(products=("cg-sparse;touch x",), lmax=(1, 1))
    words = shlex.split(chosen.command())
    assert words[words.index("--products") + 1] == "cg-sparse;touch x"
    assert "'x\")'" in chosen.snippet('x")')


def test_siso_with_natural_outputs_prints_a_command_that_runs(swept):
    chosen = Settings(setting="SISO", outputs="natural", lmax=(1, 4))
    assert [p.lmax for p in asked(chosen.command(), swept)] == [2, 4]


def test_powers_are_asked_for_where_they_are():
    with pytest.raises(ValueError, match=r"kind: .* page Layers"):
        Settings(kind="power").problems()


@pytest.mark.parametrize("written", [Settings.command, plans.scaling_command])
def test_a_baseline_that_was_chosen_is_the_reference_of_the_command(written):
    chosen = Settings(products=("cg-sparse", "e3nn", "matrix"))
    assert "--products cg-sparse,e3nn,matrix " in written(chosen)
    assert "--products matrix,cg-sparse,e3nn " in written(chosen.with_(baseline="matrix"))
    assert "--products cg-sparse,e3nn,matrix " in written(chosen.with_(baseline="so2"))

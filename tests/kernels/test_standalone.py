"""The operators in a file of their own compute where the package is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from etp import products
from etp.cli.main import main
from etp.kernels.on_cpu import build, standalone, tile
from etp.measure.drawing import random_inputs
from etp.measure.oracle import evaluate
from etp.products._described import Described

pytestmark = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))

LOADED = """
import sys
import torch
torch.ops.load_library({library!r})
given = torch.load({given!r})
x, y, code, table, dim = given
torch.save(
    [
        torch.ops.etp.tile(*given),
        *torch.ops.etp.tile_gradients(torch.ones(len(x), dim).to(x), *given),
        torch.jit.load({graph!r})(x, y),
    ],
    {out!r},
)
print(*sorted(name for name in sys.modules if name.split(".")[0] == "etp"))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("library") / "operators.so"
    assert main(["build-kernels", "--out", str(path)]) == 0
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing left beside it
    return path


class Bare(torch.nn.Module):
    """A module that calls the operator and nothing of the package."""

    def __init__(self, code: torch.Tensor, table: torch.Tensor, dim: int) -> None:
        super().__init__()
        self.register_buffer("code", code)
        self.register_buffer("table", table)
        self.dim = dim

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        z: torch.Tensor = torch.ops.etp.tile(x, y, self.code, self.table, self.dim)
        return z


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit's own
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_operators_compute_where_the_package_is_not(dtype, library, tmp_path):
    tp = products.get("cg-sparse")("0e+1o+2e", "0e+1o+2e")
    x, y = (
        t.requires_grad_() for t in random_inputs(tp, 70, torch.Generator().manual_seed(0), dtype)
    )
    z = tp(x, y)
    wanted = [z, *torch.autograd.grad(z.sum(), (x, y)), z]
    assert isinstance(tp, Described)
    packed = tile.kept(tp.tiles.programs, dtype)
    x, y = x.detach(), y.detach()
    files = {name: str(tmp_path / name) for name in ("given", "graph", "out")}
    torch.save((x, y, packed.code, packed.table, packed.dim), files["given"])
    torch.jit.trace(Bare(*packed), (x, y)).save(files["graph"])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOADED.format(library=str(library), **files)],
        capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
    for mine, right in zip(torch.load(files["out"]), wanted, strict=True):
        assert torch.equal(mine, right)
    assert (z - evaluate(tp, x, y)).norm() < 1e-5 * z.norm()


def test_every_operator_has_a_schema():
    assert {"tile", "tile_gradients", "edge_forward"} <= set(standalone.operators())
    assert all(schema.split("(")[0] in standalone.operators() for schema in standalone.schemas())


def test_what_cannot_be_built_is_one_line(tmp_path, capsys):
    assert main(["build-kernels", "--out", str(tmp_path / "no" / "file.so")]) == 2
    assert "must lie in a folder that exists" in capsys.readouterr().err
    assert main(["build-kernels", "--out", str(tmp_path / "file.so"), "--march", "abacus"]) == 1
    # A busy machine is told how long it has been compiling first.
    *progress, line = capsys.readouterr().err.splitlines()
    assert all("compiling the operators" in told for told in progress)
    assert "abacus" in line
    assert list(tmp_path.iterdir()) == []

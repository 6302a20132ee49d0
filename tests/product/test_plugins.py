"""Products of one's own: the worked example of the documentation, and files that fail."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from etp.product import plugins
from etp.product.base import TensorProduct
from etp.product.registry import register

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.search(
    r"```python\n(.*?)```", (ROOT / "docs" / "own_product.md").read_text(), re.DOTALL
)


@pytest.fixture
def files(tmp_path):
    """The worked example, and a file that prints and then fails."""
    assert EXAMPLE is not None
    (tmp_path / "mine.py").write_text(EXAMPLE[1])
    (tmp_path / "broken.py").write_text("print('here I am')\nimport no_such_library\n")
    return [tmp_path / "mine.py", tmp_path / "broken.py"]


def etp(files: list[Path], *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {plugins.VARIABLE: os.pathsep.join(map(str, files))}
    return subprocess.run(
        [sys.executable, "-m", "etp", *arguments],
        capture_output=True, text=True, cwd=ROOT, env=environment,
    )  # fmt: skip


def test_the_worked_example_is_listed_and_a_broken_file_with_its_cause(files):
    listed = {entry["name"]: entry for entry in json.loads(etp(files, "products", "--json").stdout)}
    assert listed["mine"]["unavailable"] is None
    assert listed["cg-dense"]["unavailable"] is None
    reason = listed["broken.py"]["unavailable"]
    assert str(files[1]) in reason
    assert "ModuleNotFoundError: No module named 'no_such_library'" in reason


def test_the_worked_example_passes_every_check_and_is_timed(files, tmp_path):
    out = tmp_path / "rows.jsonl"
    done = etp(
        files, "sweep", "--products", "mine,cg-dense", "--irreps1", "0e+1o+2e", "--irreps2",
        "0e+1o+1e", "--channels", "3", "--batch", "8", "--dtype", "float64", "--rounds", "3",
        "--budget", "0.2", "--out", str(out),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    mine = {row["measure"]: row for row in rows if row["product"] == "mine"}
    assert mine["agreement"]["result"]["max"] < 1e-12
    assert mine["equivariance"]["result"]["max"] < 1e-12
    assert mine["interactions"]["result"]["count"] == mine["interactions"]["result"]["allowed"]
    assert mine["runtime"]["status"] == "ok"
    assert "own layout" in mine["runtime"]["badges"]


TRAINED = """
import torch
from etp import products
mine = products.get("mine")("2x0e+2x1o", "2x0e+2x1o")
x, y = (torch.randn(5, 8, requires_grad=True) for _ in range(2))
with torch.inference_mode():
    wanted = mine(x, y)
z = mine(x, y)
z.sum().backward()
assert torch.equal(z, wanted) and x.grad.abs().sum() > 0
"""


def test_the_worked_example_is_trained_after_a_first_call_in_inference_mode(files):
    done = subprocess.run(
        [sys.executable, "-c", TRAINED], capture_output=True, text=True, cwd=ROOT,
        env=os.environ | {plugins.VARIABLE: str(files[0])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_product_that_claims_too_much_is_not_timed(files, tmp_path):
    text = files[0].read_text().replace("nui,nuj,ijk->nuk", "nuj,nui,ijk->nuk")
    assert "nuj,nui" in text
    files[0].write_text(text)
    done = etp(
        files[:1], "measure", "runtime", "--product", "mine", "--irreps1", "1o", "--irreps2", "1o",
        "--batch", "4",
    )  # fmt: skip
    assert done.returncode == 1
    assert "off by" in done.stderr
    assert "Traceback" not in done.stderr


def load(path: Path) -> str:
    """Why a file was not loaded."""
    (cause,) = plugins.load({plugins.VARIABLE: str(path)}).values()
    assert "\n" not in cause
    return cause


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("x = (", "SyntaxError: line 1"),
        ("raise SystemExit('two\\nlines')", "SystemExit: two lines"),
        ("1 / 0", "ZeroDivisionError"),
        (
            "from etp.product import TensorProduct\nfrom etp.product.registry import register\n"
            "@register\nclass Mine(TensorProduct):\n    name = 'mine'\n",
            "ValueError: Mine has no coefficient, multiply",
        ),
        (
            "from etp.products.matrix import Matrix\nfrom etp.product.registry import register\n"
            "@register\nclass Mine(Matrix):\n    title = 'mine'\n",
            "ValueError: 'matrix' already names Matrix",
        ),
    ],
    ids=["syntax", "exit", "error", "incomplete", "taken"],
)
def test_a_file_that_fails_says_why_in_one_line(tmp_path, code, cause):
    (tmp_path / "own.py").write_text(code)
    assert cause in load(tmp_path / "own.py")
    assert not [name for name in sys.modules if name.startswith("etp_own_")]


def test_files_that_are_not_there_or_not_python_are_named(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    assert "No such file" in load(tmp_path / "nothing.py")
    assert "must end in .py" in load(tmp_path / "notes.txt")


def test_what_is_registered_must_be_complete():
    class Half(TensorProduct):
        name = "half"

    with pytest.raises(ValueError, match="Half has no coefficient, multiply"):
        register(Half)  # type: ignore[type-abstract]

"""What Triton's compiler says of the GPU kernels, and the share of bandwidth that it predicts.

``python -m benchmarks.predicted`` compiles kernels for cards that need not be there and writes the
tables of ``docs/kernels.md``. Nothing here is measured: registers, spills and shared memory are the
compiler's, occupancy follows from them, and the predicted share is the least of three bounds: what
instructions leave of the time that bytes take, loads under way for the latency of memory, and one.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.marked import Marks
from etp import powers, presets, products
from etp.kernels.edge_table import EdgeTable
from etp.kernels.multilinear import PRODUCT, WEIGHTED, Evaluation
from etp.kernels.on_gpu.edge_source import Kind
from etp.kernels.on_gpu.grid_data import POINTS
from etp.kernels.on_gpu.launches import WARP
from etp.kernels.on_gpu.power_source import Shape
from etp.kernels.on_gpu.triton_edge import EdgeForm
from etp.kernels.on_gpu.triton_grid import SECOND, THIRD
from etp.kernels.on_gpu.triton_grid import WARPS as WARPS_OF_GRIDS
from etp.kernels.on_gpu.triton_power import PowerForm
from etp.kernels.on_gpu.triton_source import Source, compiled, compiled_text
from etp.kernels.power_table import places

PAGE = Path(__file__).parents[1] / "docs" / "kernels.md"
MARKS = Marks("<!-- predicted: python -m benchmarks.predicted -->", "<!-- end of predicted -->")
SIZES = ((2, 64), (2, 128))
"""Largest degrees and channels. At lmax 3 the compiler takes minutes for a kernel."""
NEIGHBOURS = 20
"""Edges of a node, among which its features and results are shared."""


CONVOLUTIONS = (
    ("forward", False, False, True), ("backward", True, False, True),
    ("change of forward", False, True, True), ("double backward", True, True, True),
)  # fmt: skip
EDGE = ("forward", False, False, False)
"""Names, and whether it is a gradient, along a change, and summed over edges."""
GRIDS = ("gaunt-grid", "gaunt-bracket", "complete", "vector-signal")
EVALUATIONS = {
    "forward": PRODUCT, "backward": SECOND, "double backward": THIRD
}  # fmt: skip


class Card(NamedTuple):
    """What a vendor says of a card.

    Attributes:
        name: As in the tables.
        capability: Compute capability, ten times.
        multiprocessors: Number of them.
        hertz: Clock.
        bytes_per_s: Peak of its memory.
        shared: Bytes of shared memory of a multiprocessor.
        per_block: Bytes of it that one program may have.
    """

    name: str
    capability: int
    multiprocessors: int
    hertz: float
    bytes_per_s: float
    shared: int
    per_block: int


CARDS = (
    Card("A100 (sm_80)", 80, 108, 1.41e9, 1.555e12, 164 << 10, 163 << 10),
    Card("H100 (sm_90)", 90, 132, 1.83e9, 3.35e12, 228 << 10, 227 << 10),
    Card("B200 (sm_100)", 100, 148, 1.85e9, 8.0e12, 228 << 10, 227 << 10),
)
REGISTERS, WARPS, BLOCKS, LATENCY_S = 65536, 64, 32, 7e-7
"""Of a multiprocessor; latency of memory under load, about."""
LOADS = 4
"""Loads that a lane has under way, about: straight-line code issues them ahead."""


class Kernel(NamedTuple):
    """A kernel to compile.

    Attributes:
        name: Product, shape and derivative.
        make: Makes it.
        kinds: Triton's types of its arguments by name; those missing are float32 pointers.
        constants: Its constants.
        lanes: Lanes of a program.
        bytes: Least that a lane moves each time it runs through the code.
        turns: How often it runs through the code, where that is a loop over points.
    """

    name: str
    make: Callable[[], Any]
    kinds: dict[str, str]
    constants: dict[str, Any]
    lanes: int
    bytes: float
    turns: float = 1.0


class Figures(NamedTuple):
    """What the compiler says of a kernel, and what follows."""

    registers: int
    spilled: int
    shared: int
    occupancy: float
    share: float


def compile_for(kernel: Kernel, card: Card) -> Figures:
    """Compile a kernel for a card; about a second."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    made = kernel.make()
    signature = {
        name: "constexpr" if name in kernel.constants else kernel.kinds.get(name, "*fp32")
        for name in made.arg_names
    }
    binary = triton.compile(
        ASTSource(made, signature=signature, constexprs=kernel.constants),
        target=GPUTarget("cuda", card.capability, WARP),
        options={"num_warps": kernel.lanes // WARP},
    )
    registers, spilled, instructions = _resources(binary.asm["cubin"])
    return figures(kernel, card, registers, spilled, int(binary.metadata.shared), instructions)


def _resources(cubin: bytes) -> tuple[int, int, int]:
    """Registers, bytes of stack and instructions."""
    from triton.backends.nvidia import compiler

    tools = Path(compiler.__file__).parent / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage, code = (
            subprocess.run(command, capture_output=True, text=True, check=True).stdout
            for command in (
                [str(tools / "cuobjdump"), "--dump-resource-usage", file.name],
                [str(tools / "nvdisasm"), "-c", file.name],
            )
        )
    (registers,), (stack,) = (re.findall(rf"{what}:(\d+)", usage) for what in ("REG", "STACK"))
    lines = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", code)
    return int(registers), int(stack), sum(not line.startswith("NOP") for line in lines)


def figures(
    kernel: Kernel, card: Card, registers: int, spilled: int, shared: int, instructions: int
) -> Figures:
    """What follows from the compiler's figures.

    Args:
        kernel: What was compiled.
        card: For which card.
        registers: Of a thread.
        spilled: Bytes of stack of a thread.
        shared: Bytes of shared memory of a program.
        instructions: Of the whole code, each taken to run in every turn.
    """
    warps = kernel.lanes // WARP
    # Registers are given out to warps in pieces of 256.
    of_warp = -(-registers * WARP // 256) * 256
    programs = min(REGISTERS // (of_warp * warps), WARPS // warps, BLOCKS)
    if shared:
        programs = min(programs, card.shared // (shared + 1024))
    resident = programs * warps
    of_bytes = kernel.bytes * WARP / (card.bytes_per_s / card.multiprocessors)
    of_instructions = kernel.turns * instructions / 4 / card.hertz
    needed = card.bytes_per_s / card.multiprocessors * LATENCY_S
    under_way = resident * WARP * LOADS * 4
    share = min(1.0, of_bytes / of_instructions, under_way / needed)
    return Figures(registers, spilled, shared, resident / WARPS, share)


def kernels(*, whole: bool = True) -> Iterator[Kernel]:
    """Kernels of the tables; few of them where not ``whole``."""
    for layer in ("mace-large", "mace-medium") if whole else ("nequip-water",):
        yield from layer_kernels(layer)
    yield from power_kernels(2 if whole else 1, "0e+1o")
    yield from pair_kernels(2 if whole else 1)
    for lmax, channels in SIZES if whole else ():
        yield from sized_kernels(lmax, channels)
    yield from row_kernels("matrix", 1)
    for name in GRIDS if whole else GRIDS[:1]:
        yield from grid_kernels(name, 2 if name == "gaunt-grid" else 1)


def sized_kernels(lmax: int, channels: int) -> Iterator[Kernel]:
    """Kernels of one size of features: an edge's, what is convolved with it, a power, a pair."""
    irreps = natural(lmax, channels)
    tp = products.get("cg-sparse")(irreps, natural(lmax, 1), filter_ir_out=natural(lmax, 1))
    asked = [evaluation for evaluation in CONVOLUTIONS if evaluation[0] != "change of forward"]
    yield from edge_kernels(_sized(lmax, channels), tp, [*asked, EDGE])
    if (lmax, channels) != (2, 128):  # Which stands before.
        yield from power_kernels(lmax, "0e+1o", channels)
        yield from pair_kernels(lmax, channels)


def layer_kernels(layer: str) -> Iterator[Kernel]:
    """The convolution of a layer in every derivative."""
    shape = presets.layer(layer)
    tp = products.get("cg-sparse")(shape.nodes, shape.edges, filter_ir_out=shape.outputs or None)
    # For one edge of the largest the compiler takes long, and says the same.
    asked = CONVOLUTIONS if layer == "mace-large" else (*CONVOLUTIONS, EDGE)
    yield from edge_kernels(layer, tp, asked)


def edge_kernels(
    label: str, tp: Any, asked: Sequence[tuple[str, bool, bool, bool]]
) -> Iterator[Kernel]:
    """Kernels of an edge product, the largest of each evaluation.

    Args:
        label: What it is called in the table.
        tp: The product.
        asked: Of :data:`CONVOLUTIONS` and :data:`EDGE`.
    """
    import triton.language as tl

    table = edge_table(tp)
    form = EdgeForm(table)
    block = form.block(128)
    ints = dict.fromkeys(("here", "there", "order", "starts"), "*i64")
    numbers = dict.fromkeys(("edges", "chunk", "planes"), "i32")
    constants = {"PLANE": 0, "BLOCK": block, "ACC": tl.float32}
    for which, backward, change, convolves in asked:
        made = form.kernels(Kind(backward, change, convolves, "edge"), block)
        weights = sum(path.w >= 0 for path in form.paths)
        shared = NEIGHBOURS if convolves else 1
        rows = (table.dims[0] + table.dims[2]) / form.widest / shared
        passes = (1 + backward) * (1 + change)
        bytes_ = 4 * passes * (weights + rows) / len(made)
        largest = max(made, key=lambda kernel: len(kernel.text))
        yield Kernel(
            f"{'convolution' if convolves else 'edge'}, {label}, {which} "
            f"({len(made)} kernel{'s' * (len(made) > 1)})",
            partial(compiled_text, "edges", largest.text),
            ints | numbers, constants, block, bytes_,
        )  # fmt: skip


def edge_table(tp: Any) -> EdgeTable:
    """The table of an edge product."""
    table: EdgeTable = next(m for m in tp.modules() if isinstance(m, EdgeTable))
    return table


def power_kernels(lmax: int, out: str, channels: int = 128) -> Iterator[Kernel]:
    """The power of order 3 of MACE's features and its gradients."""
    import triton.language as tl

    irreps = natural(lmax, channels)
    kept = "+".join(f"{channels}x{ir}" for ir in out.split("+"))
    tp: Any = powers.get("cg")(irreps, order=3, irreps_out=kept)
    form = PowerForm(tp.polynomials)
    sizes = [2 * l + 1 for l in range(lmax + 1)], [2 * int(ir[0]) + 1 for ir in out.split("+")]
    lie = tuple(places(sizes[0], channels, False) + places(sizes[1], channels, False))
    kinds = dict.fromkeys(("element", "order", "starts"), "*i64") | {"slices": "i32"}
    for which in ("forward", "features", "coefficients"):
        texts = form.texts(which, lie, Shape(channels, "element", False, False))
        text = max(texts, key=len)
        moved = form.tree.out + form.tree.dim * (1 + (which == "features"))
        yield Kernel(
            f"power 3, {_sized(lmax, channels)} to {out}, {which} ({len(texts)})",
            partial(compiled_text, "power", text),
            kinds, {"BLOCK": channels, "ACC": tl.float32}, channels, 4.0 * moved,
            )  # fmt: skip


def pair_kernels(lmax: int, channels: int = 128) -> Iterator[Kernel]:
    """Clebsch-Gordan products of pairs, and the sum of paths with their weights."""
    yield from row_kernels("cg-sparse", lmax, channels, label="pair")
    yield from row_kernels("cg-summed", lmax, channels, label="weighted pair", weighted=True)


def row_kernels(
    name: str,
    lmax: int,
    channels: int = 128,
    *,
    label: str | None = None,
    weighted: bool = False,
) -> Iterator[Kernel]:
    """Kernels that hold a row in each lane, forward and in both derivatives.

    Args:
        name: Of the product.
        lmax: Of both inputs.
        channels: Of both.
        label: What it is called in the table; its name where None.
        weighted: Whether each path has a weight.
    """
    import triton.language as tl

    tp: Any = products.get(name)(*[natural(lmax, channels)] * 2)
    form = (tp.fused_weighted if weighted else tp.fused).form(torch.device("cpu"))
    for which, evaluation in ({"forward": WEIGHTED} if weighted else EVALUATIONS).items():
        sources = form.sources(evaluation)
        source = max(sources, key=lambda s: len(s.text()))
        moved = sum(form.widths[side] for side in _sides(evaluation)) / form.channels
        yield Kernel(
            f"{label or name}, MIMO {_sized(lmax, channels)}, {which} ({len(sources)})",
            partial(compiled, source), _numbers(source),
            {"BLOCK": form.rows, "ACC": tl.float32}, form.rows, 4.0 * moved / len(sources),
        )  # fmt: skip


def grid_kernels(name: str, lmax: int) -> Iterator[Kernel]:
    """Kernels of products of signals: fewer rows than lanes, and a loop over points."""
    import triton.language as tl

    tp: Any = products.get(name)(natural(lmax), natural(lmax))
    form = tp.fused.form(torch.device("cpu"))
    steps = sum(len(stage.signals[0][0].matrix) for stage in form.stages) / POINTS
    for which, evaluation in EVALUATIONS.items():
        sources = form.sources(evaluation)
        source = max(sources, key=lambda s: len(s.text()))
        rows, lanes = form.rows(evaluation), WARP * WARPS_OF_GRIDS
        moved = sum(form.widths[side] for side in _sides(evaluation)) / form.channels
        yield Kernel(
            f"{name}, MIMO lmax {lmax}, {which} ({len(sources)})", partial(compiled, source),
            _numbers(source) | {"places": "*i32"},
            {"BLOCK": rows, "ACC": tl.float32, "PRECISION": "tf32"}, lanes,
            4.0 * moved * rows / lanes / len(sources), max(1.0, steps / len(form.stages)),
        )  # fmt: skip


def _sides(evaluation: Evaluation) -> list[int]:
    """Sides that are read and written."""
    return [*evaluation.inputs, *(out.side for out in evaluation.outputs)]


def _numbers(source: Source) -> dict[str, str]:
    """Types of the arguments that are no pointers: strides and the number of rows."""
    names = source.text().split("(", 1)[1].split(")")[0].split(", ")
    return {n: "i32" for n in names if re.fullmatch(r"s\d+|rows", n)}


def natural(lmax: int, channels: int = 128) -> str:
    """Irreps of natural parity up to a degree."""
    return "+".join(f"{channels}x{l}{'eo'[l % 2]}" for l in range(lmax + 1))


def _sized(lmax: int, channels: int) -> str:
    """Said of a size; what is not said is 128 channels, as the page has it."""
    return f"lmax {lmax}" + ("" if channels == 128 else f", {channels} channels")


def line(kernel: Kernel, cards: tuple[Card, ...] = CARDS) -> str:
    """A kernel's row of the table."""
    cells = []
    for card in cards:
        f = compile_for(kernel, card)
        spilled = f" ({f.spilled} s)" if f.spilled else ""
        cells.append(
            f"{f.registers}{spilled} / {f.shared} / {f.occupancy:.0%} / {f.share:.0%} predicted"
        )
    return f"| {kernel.name} | {' | '.join(cells)} |"


def main() -> int:
    """Write the tables; the fraction that is compiled can be cut down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="few kernels, printed only")
    parser.add_argument("--missing", action="store_true", help="only those not on the page yet")
    options = parser.parse_args()
    rows = MARKS.rows(PAGE.read_text()) if options.missing else []
    known = {row.split("|")[1].strip(): row for row in rows}
    head = f"| kernel | {' | '.join(card.name for card in CARDS)} |"
    lines = [head, "|" + "---|" * (len(CARDS) + 1)]
    for kernel in kernels(whole=not options.short):
        lines.append(known.get(kernel.name) or line(kernel))
        print(lines[-1], flush=True)
    if not options.short:
        MARKS.put(PAGE, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())

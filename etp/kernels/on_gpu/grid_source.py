"""Writes the Triton source of products of signals on grids: stage by stage, tile by tile.

Tiles of components are loaded when first met and those of results stored when complete; in between
a loop over points makes values of signals, multiplies them, and reads components off.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from etp.kernels.multilinear import Evaluation
from etp.kernels.on_gpu.grid_data import POINTS, GridData, Stage, tile
from etp.kernels.on_gpu.triton_source import Source

CROWDING = 3
"""Registers that a value at a point takes (seen in compiled code): it is an operand as well."""
MAX_PRODUCTS = 32
"""Matrix products in one kernel: beyond it compiled code spills registers, and takes minutes."""
AT_ONCE = 4
"""Products of values that lie in shared memory at a time, at the most (seen in compiled code)."""
STEP = "    "


class Tile(NamedTuple):
    """Components of one part of an input, or of an output where ``result``."""

    result: bool
    number: int
    side: int
    part: int

    @property
    def name(self) -> str:
        """Of the variable."""
        return f"{'z' if self.result else 'v'}{self.number}_{self.part}"


class Work:
    """What one stage of an evaluation does.

    Attributes:
        sums: For each output, by number, and signal of its side: the products to be read off.
        needed: Inputs, by number, and the signals that are made of them.
        tiles: Tiles that it reads or adds to.
        cost: Number of its matrix products.
    """

    def __init__(self, stage: Stage, evaluation: Evaluation) -> None:
        self.sums: dict[tuple[int, int], str] = {}
        needed: dict[tuple[int, int], None] = {}
        tiles: dict[Tile, None] = {}
        for o, out in enumerate(evaluation.outputs):
            for signals, sign in stage.terms:
                for term in out.terms:
                    factors = [(n, signals[evaluation.inputs[n]]) for n in term]
                    needed |= dict.fromkeys(factors)
                    written = " * ".join(f"f{n}_{signal}" for n, signal in factors)
                    key = o, signals[out.side]
                    self.sums[key] = self.sums.get(key, "") + f" {'-+'[sign > 0]} {written}"
        for n, signal in needed:
            side = evaluation.inputs[n]
            tiles[Tile(False, n, side, stage.signals[side][signal].part)] = None
        for o, signal in self.sums:
            side = evaluation.outputs[o].side
            tiles[Tile(True, o, side, stage.signals[side][signal].part)] = None
        self.needed, self.tiles = tuple(needed), tuple(tiles)
        self.cost = len(needed) + len(self.sums)


class Schedule:
    """Work of every stage, and the stages in which each tile is first and last used."""

    def __init__(self, form: GridData, evaluation: Evaluation) -> None:
        self.works = [Work(stage, evaluation) for stage in form.stages]
        self.first: dict[Tile, int] = {}
        self.last: dict[Tile, int] = {}
        for number, work in enumerate(self.works):
            for held_tile in work.tiles:
                self.first.setdefault(held_tile, number)
                self.last[held_tile] = number

    def parts(self) -> list[range]:
        """Stages of each kernel."""
        ends, size = [0], 0
        for number, work in enumerate(self.works):
            size += work.cost
            if size > MAX_PRODUCTS and number > ends[-1]:
                ends.append(number)
                size = work.cost
        return [range(*pair) for pair in pairwise([*ends, len(self.works)])]


def held(form: GridData, evaluation: Evaluation) -> int:
    """Numbers that one row of a program holds at a time, at the most."""
    schedule = Schedule(form, evaluation)
    columns = [CROWDING * POINTS * len(work.needed) for work in schedule.works]
    for held_tile, last in schedule.last.items():
        for number in range(schedule.first[held_tile], last + 1):
            columns[number] += tile(form.dim(held_tile.side, held_tile.part))
    return max(columns)


def shared_bytes(form: GridData, evaluation: Evaluation, rows: int, itemsize: int) -> int:
    """Shared memory that a program needs at the most, where operands of matrix products lie.

    Those are, at a time, the matrices of a stage at the points of a step, the tiles that it reads
    or adds to, the values of its signals and their products. Held against what Triton's
    compiler reserves, for every card that it knows here.

    Args:
        form: What is evaluated.
        evaluation: Which derivatives of it.
        rows: Of a program.
        itemsize: Bytes of a number.
    """
    numbers = 0
    for stage, work in zip(form.stages, Schedule(form, evaluation).works, strict=True):
        used = {(evaluation.inputs[n], signal) for n, signal in work.needed}
        used |= {(evaluation.outputs[o].side, signal) for o, signal in work.sums}
        matrices = sum(tile(stage.signals[side][s].matrix.shape[1]) for side, s in used)
        tiles = sum(tile(form.dim(held_tile.side, held_tile.part)) for held_tile in work.tiles)
        values = POINTS * (len(work.needed) + min(len(work.sums), AT_ONCE))
        numbers = max(numbers, POINTS * matrices + rows * (tiles + values))
    return itemsize * numbers


def sources(form: GridData, evaluation: Evaluation) -> list[Source]:
    """Kernels to be run one after the other: each does some of the stages."""
    schedule = Schedule(form, evaluation)
    return [_GridWriter(form, evaluation, schedule, part).source for part in schedule.parts()]


class _GridWriter:
    """Writes the kernel of some stages, one after the other."""

    def __init__(
        self, form: GridData, evaluation: Evaluation, schedule: Schedule, numbers: Sequence[int]
    ) -> None:
        self._form, self._evaluation, self._schedule = form, evaluation, schedule
        inputs, outputs = range(len(evaluation.inputs)), range(len(evaluation.outputs))
        arguments = [
            *(f"a{n}" for n in inputs),
            *(f"s{n}" for n in inputs),
            *(f"o{n}" for n in outputs),
            *("places", "table", "rows", "PRECISION: tl.constexpr"),
        ]
        self.source = Source("grid", arguments, ragged=True)
        add = self.source.add
        add("row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)")
        add("live = (row < rows)[:, None]")
        add(f"sample = (row // {form.channels})[:, None]")
        add(f"channel = (row % {form.channels}).to(tl.int32)[:, None]")
        for columns in sorted({tile(part.shape[1]) for side in form.parts for part in side}):
            add(f"c{columns} = tl.arange(0, {columns})[None, :]")
        last = {
            held_tile: number for number in numbers for held_tile in schedule.works[number].tiles
        }
        met: set[Tile] = set()
        for number in numbers:
            work = schedule.works[number]
            for held_tile in work.tiles:
                if held_tile not in met:
                    self._begin(held_tile, earlier=schedule.first[held_tile] < numbers[0])
            met |= set(work.tiles)
            if work.sums:
                self._loop(number, work)
            for held_tile in work.tiles:
                if last[held_tile] == number and held_tile.result:
                    self._store(held_tile)
        if numbers[0] == 0:
            self._zeros()

    def _zeros(self) -> None:
        """Fill parts of outputs that no stage adds to."""
        for o, out in enumerate(self._evaluation.outputs):
            for part in range(len(self._form.parts[out.side])):
                missing = Tile(True, o, out.side, part)
                if missing not in self._schedule.last:
                    self._begin(missing, earlier=False)
                    self._store(missing)

    def _columns(self, side: int, part: int) -> int:
        return tile(self._form.dim(side, part))

    def _address(self, pointer: str, stride: str, at: Tile) -> tuple[str, str]:
        """Where the components of a tile lie, and which of them are there."""
        dim, columns = self._form.dim(at.side, at.part), self._columns(at.side, at.part)
        mask = self.source.let(f"live & (c{columns} < {dim})")
        start = self._form.place_starts[at.side][at.part]
        place = f"places + ({start} + channel * {dim} + c{columns})"
        offset = self.source.let(f"tl.load({place}, mask={mask}, other=0)")
        return f"{pointer} + sample * {stride} + {offset}", mask

    def _begin(self, at: Tile, *, earlier: bool) -> None:
        """Load the components of an input, or what earlier kernels found of an output."""
        value = f"tl.zeros((BLOCK, {self._columns(at.side, at.part)}), ACC)"
        if earlier or not at.result:
            address, mask = self._input(at) if not at.result else self._output(at)
            value = f"tl.load({address}, mask={mask}, other=0.0).to(ACC)"
        self.source.add(f"{at.name} = {value}")

    def _input(self, at: Tile) -> tuple[str, str]:
        return self._address(f"a{at.number}", f"s{at.number}", at)

    def _output(self, at: Tile) -> tuple[str, str]:
        return self._address(f"o{at.number}", str(self._form.widths[at.side]), at)

    def _store(self, at: Tile) -> None:
        address, mask = self._output(at)
        self.source.add(f"tl.store({address}, {at.name}, mask={mask})")

    def _loop(self, number: int, work: Work) -> None:
        """Values of signals, their products, and what these give to the outputs."""
        stage, add = self._form.stages[number], self.source.add
        inputs = [(n, self._evaluation.inputs[n], signal) for n, signal in work.needed]
        outputs = [
            (o, self._evaluation.outputs[o].side, signal, total)
            for (o, signal), total in work.sums.items()
        ]
        used = {(side, signal) for _, side, signal in inputs}
        used |= {(side, signal) for _, side, signal, _ in outputs}
        part = {(side, signal): stage.signals[side][signal].part for side, signal in used}
        add(f"for start in range(0, {len(stage.signals[0][0].matrix)}, {POINTS}):")
        add(STEP + f"p = start + tl.arange(0, {POINTS})[:, None]")
        for columns in sorted({self._columns(side, part[side, signal]) for side, signal in used}):
            add(STEP + f"at{columns} = table + (p * {columns} + c{columns})")
        for side, signal in sorted(used):
            columns = self._columns(side, part[side, signal])
            start = self._form.table_starts[number][side][signal]
            add(STEP + f"m{side}_{signal} = tl.load(at{columns} + {start})")
        options = "input_precision=PRECISION, out_dtype=ACC"
        for n, side, signal in inputs:
            components = Tile(False, n, side, part[side, signal]).name
            values = f"tl.dot({components}, tl.trans(m{side}_{signal}), {options})"
            add(STEP + f"f{n}_{signal} = {values}")
        for o, side, signal, total in outputs:
            components = Tile(True, o, side, part[side, signal]).name
            products = total.removeprefix(" + ").strip()
            add(STEP + f"{components} += tl.dot({products}, m{side}_{signal}, {options})")

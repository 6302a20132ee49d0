"""Writes the Triton source of edge products and convolutions: a lane is a channel.

A program walks over the edges of one node, which come sorted, and keeps what it sums in registers:
the node's outputs forward, its gradient backward. No message is stored and nothing is added
atomically, so that results are bitwise the same from run to run. What input 2 makes of a path's
coefficients, a few numbers, is the same for all channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

MAX_HELD = 80
"""Numbers that a lane may hold from edge to edge: paths beyond are left to another kernel."""
MAX_TERMS = 1500
"""Multiply-adds in one kernel, for the compiler's sake."""


class PathEntry(NamedTuple):
    """What input 2 makes of the coefficients between two components.

    Attributes:
        i: Component of input 1.
        k: Component of the output.
        terms: Numbers of input 2 and their coefficients.
    """

    i: int
    k: int
    terms: tuple[tuple[int, float], ...]


class Lines(NamedTuple):
    """A path as a kernel needs it; fields as in :class:`etp.kernels.edge_table.EdgePath`."""

    x: int
    z: int
    w: int
    mul: int
    d1: int
    d3: int
    entries: tuple[PathEntry, ...]

    @property
    def terms(self) -> int:
        """Coefficients."""
        return sum(len(entry.terms) for entry in self.entries)


class Kind(NamedTuple):
    """Which kernel is written.

    Attributes:
        backward: Gradients by all inputs, or the product.
        change: Their change along a change of the inputs.
        convolves: Whether rows are nodes and edges lie between them.
        weights: ``none``, ``shared`` or ``edge``.
        want_x: Whether a gradient by input 1 is wanted.
    """

    backward: bool
    change: bool
    convolves: bool
    weights: str
    want_x: bool = True


def parts(paths: Sequence[Lines], kind: Kind, held: int = MAX_HELD) -> list[list[Lines]]:
    """Paths shared out to kernels that are run one after the other."""
    shares: list[list[Lines]] = [[]]
    for path in sorted(paths, key=lambda p: (p.x, p.z)):
        both = [*shares[-1], path]
        if shares[-1] and (_held(both, kind) > held or sum(p.terms for p in both) > MAX_TERMS):
            shares.append([])
        shares[-1].append(path)
    return shares


def _held(paths: Sequence[Lines], kind: Kind) -> int:
    """Numbers of a lane that live from edge to edge, and what one path adds to them."""
    inputs = sum({p.x: p.d1 for p in paths}.values())
    outputs = sum({p.z: p.d3 for p in paths}.values())
    twice = 2 if kind.change else 1
    sides = {j for p in paths for e in p.entries for j, _ in e.terms}
    if not kind.backward:
        return twice * (inputs + len(sides)) + outputs
    shared = len(paths) if kind.weights == "shared" else 0
    sums = kind.want_x * inputs + len(sides) + shared
    return twice * (inputs + len(sides)) + sums + max(p.d3 for p in paths)


ARGUMENTS = (
    "x", "y", "w", "hx", "hy", "hw", "g", "here", "there", "order", "starts", "z", "gx", "gy",
    "gw", "edges", "chunk", "planes",
)  # fmt: skip
"""Of every kernel. ``here`` is the node whose row a program does, ``there`` the other one's."""
_INTS = ("here", "there", "order", "starts")


class Sizes(NamedTuple):
    """Numbers of a row of each side, and the layout."""

    x: int
    y: int
    z: int
    w: int
    by_component: bool


def source(
    paths: Sequence[Lines], kind: Kind, sizes: Sizes, lanes: int, earlier: Iterable[int] = ()
) -> str:
    """The kernel of some paths.

    Args:
        paths: What it adds up.
        kind: What of them.
        sizes: Of the rows.
        lanes: Channels of all programs of a row: blocks with fewer are masked.
        earlier: Blocks, by their start, of what is summed that a kernel before has written.
    """
    return _EdgeWriter(paths, kind, sizes, lanes, frozenset(earlier)).text()


class _EdgeWriter:
    def __init__(
        self,
        paths: Sequence[Lines],
        kind: Kind,
        sizes: Sizes,
        lanes: int,
        earlier: frozenset[int],
    ) -> None:
        self._paths, self._kind, self._sizes = paths, kind, sizes
        self._lanes, self._earlier = lanes, earlier
        self._lines: list[str] = []
        self._memo: dict[str, str] = {}
        self._depth = 1
        self._write()

    def text(self) -> str:
        constants = ("PLANE: tl.constexpr", "BLOCK: tl.constexpr", "ACC: tl.constexpr")
        head = f"def edges({', '.join((*ARGUMENTS, *constants))}):"
        return "\n".join([head, *self._lines]) + "\n"

    def _add(self, line: str) -> None:
        self._lines.append("    " * self._depth + line)

    def _let(self, expression: str) -> str:
        """A name of a value, computed once in a turn of the loop."""
        if expression not in self._memo:
            self._memo[expression] = f"t{len(self._memo)}"
            self._add(f"{self._memo[expression]} = {expression}")
        return self._memo[expression]

    def _write(self) -> None:
        self._add("row = tl.program_id(0).to(tl.int64)")
        self._add("u = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)")
        for mul in sorted({p.mul for p in self._paths if p.mul != self._lanes}):
            self._add(f"m{mul} = u < {mul}")
        # In edge products a row is an edge: what is summed lies within a turn of the loop.
        outside = self._kind.convolves
        if outside:
            self._begin()
            self._add("for at in range(tl.load(starts + row), tl.load(starts + row + 1)):")
            self._depth += 1
            self._add("e = tl.load(order + at).to(tl.int64)")
            self._add("other = tl.load(there + e).to(tl.int64)")
        else:
            self._begin_shared()
            self._add("first = row * chunk")
            self._add("for e in range(first, tl.minimum(first + chunk, edges)):")
            self._depth += 1
            self._add("other = e")
            self._begin()
        kept = dict(self._memo)
        if self._kind.backward:
            self._backward()
        else:
            self._forward()
        self._memo = kept
        if outside:
            self._depth -= 1
            self._end()
        else:
            self._end()
            self._depth -= 1
        self._end_shared()

    # What is summed, from its zeros to its store.

    def _summed(self) -> dict[int, tuple[str, int, int]]:
        """Blocks that are summed for each row: pointer, multiplicity and components."""
        if not self._kind.backward:
            return {p.z: ("z", p.mul, p.d3) for p in self._paths}
        return {p.x: ("gx", p.mul, p.d1) for p in self._paths} if self._kind.want_x else {}

    def _row(self) -> str:
        return "row" if self._kind.convolves else "e"

    def _begin(self) -> None:
        for start, (_, _, dim) in self._summed().items():
            for k in range(dim):
                self._add(f"s{start}_{k} = tl.zeros((BLOCK,), ACC)")
        if self._kind.convolves:
            self._begin_shared()
        if self._kind.backward:
            for p in self._paths:
                self._features("x", p, self._row())
                if self._kind.change:
                    self._features("hx", p, self._row())

    def _end(self) -> None:
        for start, (name, mul, dim) in self._summed().items():
            width = self._sizes.z if name == "z" else self._sizes.x
            for k in range(dim):
                at = self._place(f"{name} + {self._row()} * {width}", start, mul, dim, k)
                before = f"tl.load({at}{self._mask(mul, load=True)}) + "
                value = f"{before if start in self._earlier else ''}s{start}_{k}"
                self._add(f"tl.store({at}, {value}{self._mask(mul)})")

    def _sums_weights(self) -> bool:
        return self._kind.backward and self._kind.weights == "shared"

    def _begin_shared(self) -> None:
        if self._sums_weights():
            for n, p in enumerate(self._paths):
                if p.w >= 0:
                    self._add(f"sw{n} = tl.zeros((BLOCK,), ACC)")

    def _end_shared(self) -> None:
        if self._sums_weights():
            for n, p in enumerate(self._paths):
                if p.w >= 0:
                    at = f"gw + row * {self._sizes.w} + {p.w} + u"
                    self._add(f"tl.store({at}, sw{n}{self._mask(p.mul)})")

    # Addresses and loads.

    def _mask(self, mul: int, *, load: bool = False) -> str:
        if mul == self._lanes:
            return ""
        return f", mask=m{mul}" + (", other=0.0" if load else "")

    def _place(self, base: str, start: int, mul: int, dim: int, k: int) -> str:
        inside = f"{k * mul} + u" if self._sizes.by_component else f"{k} + u * {dim}"
        return f"{base} + {start} + {inside}"

    def _features(self, name: str, path: Lines, row: str) -> list[str]:
        """Components of a block of input 1."""
        base, mask = f"{name} + {row} * {self._sizes.x}", self._mask(path.mul, load=True)
        places = (self._place(base, path.x, path.mul, path.d1, i) for i in range(path.d1))
        return [self._let(f"tl.load({at}{mask}).to(ACC)") for at in places]

    def _gradient(self, path: Lines) -> list[str]:
        base, mask = f"g + other * {self._sizes.z}", self._mask(path.mul, load=True)
        places = (self._place(base, path.z, path.mul, path.d3, k) for k in range(path.d3))
        return [self._let(f"tl.load({at}{mask}).to(ACC)") for at in places]

    def _weight(self, name: str, path: Lines) -> str | None:
        if path.w < 0 or self._kind.weights == "none":
            return None
        row = f" + e * {self._sizes.w}" if self._kind.weights == "edge" else ""
        at = f"{name}{row} + {path.w} + u"
        return self._let(f"tl.load({at}{self._mask(path.mul, load=True)}).to(ACC)")

    def _coupling(self, name: str, entry: PathEntry) -> str:
        """What input 2, or its change, makes of an entry's coefficients."""
        parts = []
        for j, value in entry.terms:
            y = self._let(f"tl.load({name} + e * {self._sizes.y} + {j}).to(ACC)")
            parts.append(f"{value!r} * {y}")
        return self._let(" + ".join(parts))

    # The sums of one edge.

    def _forward(self) -> None:
        change = self._kind.change
        for p in self._paths:
            x = self._features("x", p, "other")
            hx = self._features("hx", p, "other") if change else []
            w, hw = self._weight("w", p), self._weight("hw", p) if change else None
            for k in range(p.d3):
                own = [entry for entry in p.entries if entry.k == k]
                if not own:
                    continue
                value = " + ".join(f"{self._coupling('y', e)} * {x[e.i]}" for e in own)
                if change:
                    moved = " + ".join(
                        f"{self._coupling('y', e)} * {hx[e.i]} + "
                        f"{self._coupling('hy', e)} * {x[e.i]}" for e in own
                    )  # fmt: skip
                    moved = f"{w} * ({moved})" if w else f"({moved})"
                    value = f"{moved} + {hw} * ({value})" if hw else moved
                else:
                    value = f"{w} * ({value})" if w else value
                self._add(f"s{p.z}_{k} += {value}")

    def _backward(self) -> None:
        change, row = self._kind.change, self._row()
        used = sorted({j for p in self._paths for e in p.entries for j, _ in e.terms})
        for j in used:
            self._add(f"b{j} = tl.zeros((BLOCK,), ACC)")
        for n, p in enumerate(self._paths):
            x, g = self._features("x", p, row), self._gradient(p)
            hx = self._features("hx", p, row) if change else []
            w, hw = self._weight("w", p), self._weight("hw", p) if change else None
            wg = [self._let(f"{w} * {component}") if w else component for component in g]
            hg = [self._let(f"{hw} * {component}") if hw else "" for component in g]
            if w:
                self._weight_gradient(n, p, g, x, hx)
            for e in p.entries:
                if self._kind.want_x:
                    value = f"{self._coupling('hy' if change else 'y', e)} * {wg[e.k]}"
                    if change and hw:
                        value += f" + {self._coupling('y', e)} * {hg[e.k]}"
                    self._add(f"s{p.x}_{e.i} += {value}")
                value = f"{(hx if change else x)[e.i]} * {wg[e.k]}"
                if change and hw:
                    value += f" + {x[e.i]} * {hg[e.k]}"
                product = self._let(value)
                for j, c in e.terms:
                    self._add(f"b{j} += {c!r} * {product}")
        plane = "(PLANE + tl.program_id(1)).to(tl.int64) * planes"
        for j in used:
            at = f"gy + {plane} + e * {self._sizes.y} + {j}"
            self._add(f"tl.store({at}, tl.sum(b{j}, axis=0))")

    def _weight_gradient(
        self, n: int, p: Lines, g: Sequence[str], x: Sequence[str], hx: Sequence[str]
    ) -> None:
        terms = []
        for e in p.entries:
            value = f"{self._coupling('y', e)} * {(hx if self._kind.change else x)[e.i]}"
            if self._kind.change:
                value = f"({value} + {self._coupling('hy', e)} * {x[e.i]})"
            terms.append(f"{g[e.k]} * {value}")
        if self._kind.weights == "shared":
            self._add(f"sw{n} += {' + '.join(terms)}" if terms else "pass")
        else:
            at = f"gw + e * {self._sizes.w} + {p.w} + u"
            value = " + ".join(terms) or "tl.zeros((BLOCK,), ACC)"
            self._add(f"tl.store({at}, {value}{self._mask(p.mul)})")

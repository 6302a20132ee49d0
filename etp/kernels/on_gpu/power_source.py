"""Writes the Triton source of powers: one lane a channel, one node a program.

Monomials are a tree, each a product of its parent and a component. The tree is walked depth first,
so that a lane holds components, sums and one branch, never all monomials; backward the same walk
brings the gradient of each monomial to its parent on the way up.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

MAX_SUMS = 48
"""Pairs whose gradients one kernel sums; the others are left to further ones."""


class Tree(NamedTuple):
    """Monomials and what they lead to.

    Attributes:
        dim: Components, the first monomials.
        out: Components of the output.
        factor: Component that a monomial is the product with, of its parent.
        children: Monomials made of each.
        pairs: (pair, component of the output) of each monomial.
    """

    dim: int
    out: int
    factor: tuple[int, ...]
    children: tuple[tuple[int, ...], ...]
    pairs: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def reached(self) -> int:
        """Pairs."""
        return sum(map(len, self.pairs))


def tree(dim: int, arrays: dict[str, np.ndarray[Any, np.dtype[np.int32]]]) -> Tree:
    """The tree of a program's monomials, ``arrays`` those of ``power.Program``."""
    parent = arrays["parent"].tolist()
    children: list[list[int]] = [[] for _ in parent]
    for m in range(dim, len(parent)):
        children[parent[m]].append(m)
    pairs: list[list[tuple[int, int]]] = [[] for _ in parent]
    rows = arrays["row"].tolist()
    for k, (start, end) in enumerate(pairwise(rows)):
        for pair in range(start, end):
            pairs[int(arrays["monomial"][pair])].append((pair, k))
    return Tree(
        dim, len(rows) - 1, tuple(arrays["factor"].tolist()), tuple(map(tuple, children)),
        tuple(map(tuple, pairs)),
    )  # fmt: skip


ARGUMENTS = (
    "x", "c", "hx", "hc", "g", "element", "order", "starts", "z", "gx", "gc", "slices",
)  # fmt: skip
"""Of every kernel; ``c`` are coefficients of pairs, (rows of weights, pairs, channels)."""
Places = Sequence[tuple[int, int]]
"""Where channel 0 of each component lies, and how far apart the channels are."""


class Shape(NamedTuple):
    """What a kernel is written for.

    Attributes:
        channels: Of input and output.
        rows: Which row of coefficients a node has: ``shared``, ``node`` or ``element``.
        change: Whether it is a change along changes of the inputs.
        masked: Whether programs have lanes beyond the channels.
    """

    channels: int
    rows: str
    change: bool
    masked: bool


def forward(tree: Tree, places: Places, shape: Shape) -> str:
    """Kernel of the power."""
    return _PowerWriter(tree, places, shape).forward()


def features(tree: Tree, places: Places, shape: Shape) -> str:
    """Kernel of the gradient by features."""
    return _PowerWriter(tree, places, shape).features()


def coefficients(tree: Tree, places: Places, shape: Shape) -> list[str]:
    """Kernels of the gradient by coefficients, each of some pairs."""
    # Pairs of one branch lie together, so that a kernel makes few monomials.
    order = [pair for root in range(tree.dim) for pair in _below(tree, root)]
    return [
        _PowerWriter(tree, places, shape).coefficients(frozenset(order[at : at + MAX_SUMS]))
        for at in range(0, len(order), MAX_SUMS)
    ]


def _below(tree: Tree, monomial: int) -> list[int]:
    own = [pair for pair, _ in tree.pairs[monomial]]
    return own + [pair for child in tree.children[monomial] for pair in _below(tree, child)]


class _PowerWriter:
    def __init__(self, tree: Tree, places: Places, shape: Shape) -> None:
        self._tree, self._places, self._shape = tree, places, shape
        self._mask = ", mask=live" if shape.masked else ""
        self._load = f"{self._mask}, other=0.0" if shape.masked else ""
        self._lines: list[str] = []
        self._depth, self._count = 1, 0
        self._add("row = tl.program_id(0).to(tl.int64)")
        self._add("u = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)")
        if shape.masked:
            self._add(f"live = u < {shape.channels}")

    def _text(self) -> str:
        constants = ("BLOCK: tl.constexpr", "ACC: tl.constexpr")
        return (
            "\n".join([f"def power({', '.join((*ARGUMENTS, *constants))}):", *self._lines]) + "\n"
        )

    def _add(self, line: str) -> None:
        self._lines.append("    " * self._depth + line)

    def _let(self, expression: str) -> str:
        self._count += 1
        self._add(f"t{self._count} = {expression}")
        return f"t{self._count}"

    def _node(self) -> None:
        """Say which node is done, and what its components are."""
        width = self._tree.dim * self._shape.channels
        self._x = self._components("x", width)
        self._hx = self._components("hx", width) if self._shape.change else []

    def _components(self, name: str, width: int) -> list[str]:
        return [
            self._let(f"tl.load({name} + node * {width} + {at} + u * {step}{self._load}).to(ACC)")
            for at, step in self._places[: self._tree.dim]
        ]

    def _coefficient_row(self) -> None:
        row = {"shared": "0", "node": "node", "element": "tl.load(element + node).to(tl.int64)"}
        self._add(f"own = {row[self._shape.rows]} * {self._tree.reached * self._shape.channels}")

    def _c(self, name: str, pair: int) -> str:
        at = f"{name} + own + {pair * self._shape.channels} + u"
        return f"tl.load({at}{self._load}).to(ACC)"

    def _out(self, name: str, k: int) -> str:
        at, step = self._places[self._tree.dim + k]
        return f"{name} + node * {self._tree.out * self._shape.channels} + {at} + u * {step}"

    def _gradients(self) -> list[str]:
        loads = (f"tl.load({self._out('g', k)}{self._load}).to(ACC)" for k in range(self._tree.out))
        return [self._let(load) for load in loads]

    def _made(self, child: int, value: str, change: str) -> tuple[str, str]:
        """A monomial of its parent's value, and its change."""
        f = self._tree.factor[child]
        moved = ""
        if self._shape.change:
            moved = self._let(f"{change} * {self._x[f]} + {value} * {self._hx[f]}")
        return self._let(f"{value} * {self._x[f]}"), moved

    def _roots(self) -> list[tuple[int, str, str]]:
        changes = self._hx or [""] * self._tree.dim
        return [(m, self._x[m], changes[m]) for m in range(self._tree.dim)]

    def forward(self) -> str:
        self._add("node = row")
        self._node()
        self._coefficient_row()
        for k in range(self._tree.out):
            self._add(f"s{k} = tl.zeros((BLOCK,), ACC)")
        for root in self._roots():
            self._sum(*root)
        for k in range(self._tree.out):
            self._add(f"tl.store({self._out('z', k)}, s{k}{self._mask})")
        return self._text()

    def _sum(self, m: int, value: str, change: str) -> None:
        for pair, k in self._tree.pairs[m]:
            if change:
                part = f"{self._c('c', pair)} * {change} + {self._c('hc', pair)} * {value}"
            else:
                part = f"{self._c('c', pair)} * {value}"
            self._add(f"s{k} += {part}")
        for child in self._tree.children[m]:
            self._sum(child, *self._made(child, value, change))

    def features(self) -> str:
        self._add("node = row")
        self._node()
        self._coefficient_row()
        self._g = self._gradients()
        for i in range(self._tree.dim):
            self._add(f"s{i} = tl.zeros((BLOCK,), ACC)")
        for m, value, change in self._roots():
            own, moved = self._raised(m, value, change)
            self._add(f"s{m} += {moved if change else own}")
        width = self._tree.dim * self._shape.channels
        for i, (at, step) in enumerate(self._places[: self._tree.dim]):
            self._add(f"tl.store(gx + node * {width} + {at} + u * {step}, s{i}{self._mask})")
        return self._text()

    def _raised(self, m: int, value: str, change: str) -> tuple[str, str]:
        """Gradient of a monomial, and its change, once all that is made of it is done."""
        tree = self._tree
        name, moved = self._let("tl.zeros((BLOCK,), ACC)"), ""
        if change:
            moved = self._let("tl.zeros((BLOCK,), ACC)")
        for pair, k in tree.pairs[m]:
            self._add(f"{name} += {self._c('c', pair)} * {self._g[k]}")
            if change:
                self._add(f"{moved} += {self._c('hc', pair)} * {self._g[k]}")
        for child in tree.children[m]:
            f = tree.factor[child]
            own, own_moved = self._raised(child, *self._made(child, value, change))
            self._add(f"{name} += {own} * {self._x[f]}")
            if change:
                self._add(f"{moved} += {own_moved} * {self._x[f]} + {own} * {self._hx[f]}")
                self._add(f"s{f} += {own_moved} * {value} + {own} * {change}")
            else:
                self._add(f"s{f} += {own} * {value}")
        return name, moved

    def coefficients(self, wanted: frozenset[int]) -> str:
        """Rows are slices of the nodes that share a row of coefficients."""
        self._add("which = row // slices")
        self._add("begin = tl.load(starts + which).to(tl.int64)")
        self._add("count = tl.load(starts + which + 1).to(tl.int64) - begin")
        self._add("part = row - which * slices")
        for pair in sorted(wanted):
            self._add(f"c{pair} = tl.zeros((BLOCK,), ACC)")
        self._add("first = begin + count * part // slices")
        self._add("for at in range(first, begin + count * (part + 1) // slices):")
        self._depth += 1
        self._add("node = tl.load(order + at).to(tl.int64)")
        self._node()
        self._g = self._gradients()
        for root in self._roots():
            self._collect(wanted, *root)
        self._depth -= 1
        for pair in sorted(wanted):
            at = f"gc + (row * {self._tree.reached} + {pair}) * {self._shape.channels} + u"
            self._add(f"tl.store({at}, c{pair}{self._mask})")
        return self._text()

    def _collect(self, wanted: frozenset[int], m: int, value: str, change: str) -> None:
        for pair, k in self._tree.pairs[m]:
            if pair in wanted:
                self._add(f"c{pair} += {self._g[k]} * {change or value}")
        for child in self._tree.children[m]:
            if wanted.intersection(_below(self._tree, child)):
                self._collect(wanted, child, *self._made(child, value, change))

"""Descriptions in plain PyTorch: the reference, for any dtype, device and transform."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import singledispatch
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from etp.product.base import TensorProduct
from etp.product.weighting import met, scaled
from etp.products._description import Description
from etp.products._executors import Executor
from etp.products._fields import FieldTransform
from etp.products._grid import OUT, Fields
from etp.products._paths import Paths
from etp.products._square import Matrices
from etp.products._transforms import Assembly

_SIDES = ("in1", "in2", "out")


class Plain(Executor):
    """PyTorch operators, which serve every device, dtype and transform."""

    @override
    def serves(self, x1: Tensor, x2: Tensor) -> bool:
        return True

    @abstractmethod
    def macs(self, sides: Sequence[int] = (0, 1, 2)) -> int:
        """Multiply-adds for one sample, or the part of them that needs only some sides."""


@singledispatch
def in_pytorch(
    description: Description, owner: TensorProduct, beside: Plain | None = None
) -> Plain:
    """What runs a description in plain PyTorch.

    Args:
        description: What is computed.
        owner: Product that keeps the tables.
        beside: What runs another description of the same owner: they share what they can.
    """
    raise TypeError(f"{type(description).__name__} has no plain form")


class _Map(NamedTuple):
    """A source with its transform.

    Attributes:
        sector: Key of its sector.
        transform: Between the sector's components and the fields.
        targets: Numbers of the fields.
        shares: Copies of the components that enter, by number, and names of their tables.
    """

    sector: int
    transform: FieldTransform
    targets: tuple[int, ...]
    shares: tuple[tuple[int, str | None], ...]


class PlainFields(Plain):
    """Pointwise products of fields.

    Args:
        owner: Product that keeps the tables.
        fields: What is computed.
        beside: Another one of the owner, whose transforms are used again.
    """

    def __init__(
        self, owner: TensorProduct, fields: Fields, beside: PlainFields | None = None
    ) -> None:
        self._owner, self._name = owner, "" if beside is None else "slots_"
        self._transforms: dict[str, FieldTransform] = {} if beside is None else beside._transforms
        out = fields.sides[OUT]
        if any(share is not None for source in out.sources for share in source.shares.values()):
            for key, sector in out.sectors.items():
                owner.register_buffer(f"places_{key}", sector.positions, persistent=False)
        self.terms = [tuple(term) for term in fields.terms]
        self._points = fields.nodes.shape[0] * fields.nodes.shape[1]
        self._dims = tuple(side.dim for side in fields.sides)
        self._copies = tuple(len(side.slots) for side in fields.sides)
        self._maps = [self._side(fields, number) for number in range(3)]
        self._assembly = Assembly(owner, "output_order", fields.sides[OUT].sectors)
        self._read = [list(fields.sides[OUT].sectors), [
            len(sector.positions) for sector in fields.sides[OUT].sectors.values()
        ]]  # fmt: skip

    def _side(self, fields: Fields, number: int) -> list[_Map]:
        side, maps = fields.sides[number], []
        for source in side.sources:
            place = f"{_SIDES[number]}_{source.name}"
            sector = side.sectors[source.sector]
            name = f"{place}_{'scalar' if source.sector == 1 else 'pseudo'}"
            if name not in self._transforms:
                back = number == OUT
                self._transforms[name] = FieldTransform(
                    self._owner, name, sector, fields.nodes, source.fields, back=back
                )
            transform = self._transforms[name]
            shares: list[tuple[int, str | None]] = []
            for slot, share in source.shares.items():
                table = None if share is None else f"{self._name}share_{place}_{slot}"
                if share is not None and table is not None:
                    self._owner.register_table(table, share)
                shares.append((list(side.slots).index(slot), table))
            maps.append(_Map(source.sector, transform, tuple(source.targets), tuple(shares)))
        return maps

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        first, second = self._made(x1, 0), self._made(x2, 1)
        products: dict[int, Tensor] = {}
        for a, b, out, sign in self.terms:
            product = met(first[a], second[b])
            if out not in products:
                products[out] = product if sign > 0 else -product
            else:
                before = products[out]
                products[out] = before + product if sign > 0 else before - product
        return self._components(products, x1.dtype)

    def transform(self, side: int, sector: int) -> FieldTransform:
        """Between a sector of a side and its first field."""
        return next(source.transform for source in self._maps[side] if source.sector == sector)

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Components of all sectors of the output, in the order of its irreps."""
        return self._assembly.join(parts)

    def _made(self, x: Tensor, side: int) -> dict[int, Tensor]:
        """Fields of an input, by number."""
        fields: dict[int, Tensor] = {}
        for source in self._maps[side]:
            parts = [self._share(x, side, *share) for share in source.shares]
            values = source.transform.to_grid(sum(parts[1:], start=parts[0]))
            for target, field in zip(source.targets, values, strict=True):
                fields[target] = fields[target] + field if target in fields else field
        return fields

    def _share(self, x: Tensor, side: int, copy: int, table: str | None) -> Tensor:
        """What one copy of the components gives."""
        dim = self._dims[side]
        part = x if self._copies[side] == 1 else x[:, copy * dim : (copy + 1) * dim]
        return part if table is None else part * self._owner.table(table, x.dtype)

    def _components(self, products: dict[int, Tensor], dtype: torch.dtype) -> Tensor:
        """Components of every copy of the output."""
        keys, widths = self._read
        parts: dict[tuple[int, int], Tensor] = {}
        for source in self._maps[OUT]:
            read = source.transform.from_grid([products[target] for target in source.targets])
            for copy, table in source.shares:
                own = read
                if table is not None:
                    index = self._owner.index(f"places_{source.sector}")
                    own = read * self._owner.table(table, dtype).index_select(-1, index)
                key = copy, source.sector
                parts[key] = parts[key] + own if key in parts else own
        like = next(iter(parts.values()))
        copies = [
            self.join(
                [
                    parts[copy, key]
                    if (copy, key) in parts
                    else like.new_zeros(like.shape[0], width)
                    for key, width in zip(keys, widths, strict=True)
                ]
            )
            for copy in range(self._copies[OUT])
        ]
        return copies[0] if len(copies) == 1 else torch.cat(copies, dim=1)

    @override
    def macs(self, sides: Sequence[int] = (0, 1, 2)) -> int:
        total = self._points * len(self.terms) if len(sides) == 3 else 0
        for side in sides:
            total += sum(source.transform.macs for source in self._maps[side])
            tables = {table for source in self._maps[side] for _, table in source.shares}
            total += self._dims[side] * len(tables - {None})
        return total


@in_pytorch.register
def _(fields: Fields, owner: TensorProduct, beside: Plain | None = None) -> Plain:
    return PlainFields(owner, fields, beside if isinstance(beside, PlainFields) else None)


class PlainMatrices(Plain):
    """Products of square matrices, in batches.

    Args:
        owner: Product that keeps the tables.
        matrices: What is computed.
    """

    def __init__(self, owner: TensorProduct, matrices: Matrices) -> None:
        self._owner, self._side = owner, matrices.side
        first, second, out = matrices.grades[0]
        self._dims = len(first), len(second), out.shape[1]
        self._grades = range(len(matrices.grades))
        for number, grade in enumerate(matrices.grades):
            owner.register_table(f"in1_{number}", grade.first)
            owner.register_table(f"in2_{number}", grade.second)
        owner.register_table("out", torch.cat([grade.out for grade in matrices.grades]))

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        products = [self._product(x1, x2, number) for number in self._grades]
        product = products[0] if len(products) == 1 else torch.cat(products, dim=1)
        return product @ self._owner.table("out", x1.dtype)

    def _product(self, x1: Tensor, x2: Tensor, grade: int) -> Tensor:
        """Matrices (N, side^2) of (E * U, dim1) and (E, dim2): U of them under each other."""
        shape = (self._side, self._side)
        first = x1 @ self._owner.table(f"in1_{grade}", x1.dtype)
        second = (x2 @ self._owner.table(f"in2_{grade}", x2.dtype)).unflatten(1, shape)
        runs = first.reshape(second.shape[0], -1, self._side)
        return torch.bmm(runs, second).reshape(first.shape)

    @override
    def macs(self, sides: Sequence[int] = (0, 1, 2)) -> int:
        total = self._side**3 if len(sides) == 3 else 0
        total += sum(self._dims[side] for side in sides) * self._side**2
        return len(self._grades) * total


@in_pytorch.register
def _(matrices: Matrices, owner: TensorProduct, beside: Plain | None = None) -> Plain:
    return PlainMatrices(owner, matrices)


class PlainPaths(Plain):
    """For each pair of irreps an outer product and one dense matrix for all their paths.

    Args:
        owner: Product that keeps the tables; the paths are its own, in their order.
        paths: What is computed.
    """

    def __init__(self, owner: TensorProduct, paths: Paths) -> None:
        self._owner, self._dim = owner, paths.dims[2]
        pairs = paths.pairs()
        self.parts = [(pair.first, pair.second) for pair in pairs]
        for number, pair in enumerate(pairs):
            owner.register_table(f"matrix{number}", pair.matrix)
        self._macs = paths.macs()
        order = torch.cat([pair.out for pair in pairs])
        # Where each component is one column, they are put in order rather than added up.
        self._apart = torch.equal(order.sort().values, torch.arange(self._dim))
        owner.register_buffer("pair_places", order.argsort() if self._apart else order, False)
        owner.register_buffer("pair_path", torch.cat([pair.path for pair in pairs]), False)

    @override
    def multiply(self, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> Tensor:
        """(N, dim1) and (N, dim2) to (N, dim_out), with weights (G, paths) or without."""
        owner, blocks = self._owner, []
        for pair, (part1, part2) in enumerate(self.parts):
            outer = (x1[:, part1, None] * x2[:, None, part2]).flatten(1)
            blocks.append(outer @ owner.table(f"matrix{pair}", x1.dtype))
        z = torch.cat(blocks, dim=1)
        if weights is not None:
            z = scaled(z, weights.index_select(-1, owner.index("pair_path")))
        places = owner.index("pair_places")
        if self._apart:
            return z.index_select(1, places)
        return z.new_zeros(z.shape[0], self._dim).index_add(1, places, z)

    @override
    def macs(self, sides: Sequence[int] = (0, 1, 2)) -> int:
        return self._macs if len(sides) == 3 else 0


@in_pytorch.register
def _(paths: Paths, owner: TensorProduct, beside: Plain | None = None) -> Plain:
    return PlainPaths(owner, paths)

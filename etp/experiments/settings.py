"""What an experiment is about, each choice declared once; no torch, for pages and commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from etp.options import check_options, flag, option
from etp.problem import Problem

LearnedWeights = Literal["none", "shared", "balanced"]
Precision = Literal["float32", "float64"]
TETRIS_EDGES = 50
"""Pairs of neighbouring cubes in all eight pieces, in both directions."""


@dataclass(frozen=True, kw_only=True)
class Tetris:
    """A training on the eight pieces of Tetris; see :mod:`etp.experiments.tetris`.

    Raises:
        ValueError: Naming the field of any bad value.
    """

    layers: int = option(
        3, "Layers", low=1, high=6, help="Products one after the other: three see a whole piece."
    )
    channels: int = option(
        8, "Channels", low=1, high=256, help="Copies of each irrep that a node holds."
    )
    lmax: int = option(2, "lmax", low=1, high=6, help="Largest degree of nodes and edges.")
    steps: int = option(
        100, "Steps", low=1, high=100_000, help="Steps of Adam; each sees every piece once."
    )
    weights: LearnedWeights = option(
        "none",
        "Product weights",
        choices=get_args(LearnedWeights),
        words={"none": "no weights", "shared": "learned weights", "balanced": "balanced weights"},
        help="Free weights of the product itself. Balanced: fixed ones that bring all paths as "
        "near to one size as they can.",
    )
    dtype: Precision = option("float32", "Number type", choices=get_args(Precision))
    device: str = option("cpu", "Device", help="cpu or cuda:N.")
    threads: int = option(
        1, "CPU threads", low=1, high=1024, help="One is fastest for networks this small."
    )
    seed: int = option(0, "Seed", high=2**31 - 1, help="Of the first weights and the rotations.")

    def __post_init__(self) -> None:
        check_options(self)
        self.problem()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Tetris:
        """Read settings as stored in a case; raises ``ValueError`` for what is not known."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"settings have no field {unknown[0]!r}; known: {', '.join(known)}")
        return cls(**values)

    def problem(self) -> Problem:
        """The product of an inner layer: both parities of each degree meet the harmonics."""
        nodes = "+".join(f"{l}{p}" for l in range(self.lmax + 1) for p in "eo")
        edges = "+".join(f"{l}{'eo'[l % 2]}" for l in range(self.lmax + 1))
        return Problem.of_irreps(
            nodes, edges, nodes, channels=self.channels, batch=TETRIS_EDGES, dtype=self.dtype,
            direction="backward", weights=self.weights, device=self.device, threads=self.threads,
            seed=self.seed,
        )  # fmt: skip

    def words(self) -> str:
        """Options of the command line that differ from the usual ones, the seed left out."""
        return " ".join(
            f"{flag(field.name)} {getattr(self, field.name)}"
            for field in fields(self)
            if field.name != "seed" and getattr(self, field.name) != field.default
        )

    def case(self, products: Sequence[str]) -> dict[str, Any]:
        """Case that trains a network with each of these products."""
        return {
            "kind": "tetris",
            "problem": self.problem().as_dict(),
            "products": list(products),
            "settings": asdict(self),
        }

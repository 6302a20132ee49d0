"""A problem: which irreps are multiplied, how many of them, how precisely and where.

Imports neither torch nor e3nn: pages, the store and the command line describe work with it before
anything heavy is loaded.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

from etp.irreps import (
    MAX_DEGREE,
    OUTPUTS,
    SETTINGS,
    Ir,
    Outputs,
    Setting,
    Term,
    allowed_polynomials,
    channels,
    meeting,
    multiplicities,
    parse_terms,
    selection_rule,
    setting_irreps,
    symmetric_powers,
    to_text,
    why_empty,
)
from etp.options import check_options, chosen, declared, flag, option

DType = Literal["float32", "float64", "bfloat16"]
Direction = Literal["forward", "backward", "double-backward"]
Cache = Literal["warm", "cold"]
Weights = Literal["none", "shared", "per-sample", "balanced"]
Matmul = Literal["exact", "tf32"]
Kind = Literal["pair", "edge", "convolution", "power"]
"""What is computed: see :mod:`etp.presets` for who runs which."""
Axis = Literal["lmax", "batch", "channels"]
"""Sizes that a sweep can go along."""
ITEMSIZE: dict[DType, int] = {"float32": 4, "float64": 8, "bfloat16": 2}
MAX_BATCH = 10_000_000
MAX_CHANNELS = 4096
MAX_ORDER = 4
"""Largest order of a power that is measured: beyond, tables take minutes."""
MAX_ELEMENTS = 118

Triple = tuple[Ir, Ir, Ir]


class Size(NamedTuple):
    """What a problem asks for, when every allowed path is kept apart, before it is run.

    Attributes:
        paths: Number of triples (l1, l2, l3) that the selection rules allow.
        outputs: Numbers per sample in the output, all channels.
        bytes: Bytes of both inputs and the output for the whole batch.

    Examples:
        >>> Problem.of_setting("MIMO", 1).size()
        Size(paths=6, outputs=..., bytes=...)
    """

    paths: int
    outputs: int
    bytes: int


class EmptyProblemError(ValueError):
    """A problem without a path: everything else about it is right."""


def _device(name: str, text: str) -> None:
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", text):
        raise ValueError(f"{name} must be 'cpu' or 'cuda:N', got {text[:40]!r}")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What can be chosen for any irreps; see :mod:`etp.options`."""

    outputs: Outputs = option(
        "all",
        "Output parities",
        choices=OUTPUTS,
        group="problem",
        work=False,  # it is in the irreps that are kept
        help="All: the parity that the selection rule gives, odd paths included. Natural: only "
        "those of spherical harmonics, as the paper's benchmark timed.",
    )
    kind: Kind = option(
        "pair",
        "Kind",
        choices=get_args(Kind),
        help="Pair: channel u of input 1 meets channel u of input 2. Edge: the one channel of "
        "input 2, spherical harmonics of an edge, meets every channel of input 1. Convolution: "
        "edge products of the neighbours of each node, added up. Power: each channel of a node is "
        "multiplied with itself, up to --order factors, as in the symmetric contraction of MACE.",
    )
    batch: int = option(
        1000, "Batch", low=1, high=MAX_BATCH, group="sizes", several=True,
        help="Samples in a call; edges, for the kinds that have edges.",
    )  # fmt: skip
    channels: int = option(
        1, "Channels", low=1, high=MAX_CHANNELS, group="sizes", several=True,
        help="Copies of the irreps: channel u of input 1 meets channel u of input 2. With edges: "
        "copies of those of input 1.",
    )  # fmt: skip
    neighbours: int = option(
        20, "Neighbours", low=1, high=1000, several=True,
        help="Edges that a node of a convolution receives: there are batch / neighbours nodes.",
    )  # fmt: skip
    order: int = option(
        3, "Order", low=1, high=MAX_ORDER, several=True,
        help="Largest number of factors of a power.",
    )  # fmt: skip
    elements: int = option(
        1, "Elements", low=1, high=MAX_ELEMENTS, several=True,
        help="Sets of weights of a power: each node uses that of its element, as in MACE. Elements "
        "of nodes are drawn at random.",
    )  # fmt: skip
    dtype: DType = option("float32", "Number type", choices=get_args(DType), group="numbers")
    matmul: Matmul = option(
        "exact",
        "float32 matrix products",
        choices=get_args(Matmul),
        group="numbers",
        gpu_only=True,
        help="tf32: factors rounded to 10 bits, on tensor cores of NVIDIA GPUs.",
    )
    direction: Direction = option(
        "forward",
        "Direction",
        choices=get_args(Direction),
        words={"backward": "forward + backward", "double-backward": "with second derivative"},
        group="numbers",
        help="Backward: forward and backward together. Double-backward adds the derivative of the "
        "gradient.",
    )
    weights: Weights = option(
        "none",
        "Weights",
        choices=get_args(Weights),
        words={
            "none": "no weights",
            "shared": "shared weights",
            "per-sample": "weights per sample",
            "balanced": "balanced weights",
        },
        group="numbers",
        help="Free weights of the product: one for each path where it weighs paths, else factors "
        "for each degree of its inputs and output. Balanced: fixed ones that bring "
        "all paths as near to one size as they can, as half precision asks for at high lmax.",
    )
    cache: Cache = option(
        "warm",
        "Cache",
        choices=get_args(Cache),
        group="numbers",
        help="Cold: before every timed call a buffer larger than the cache is written.",
    )
    threads: int | None = option(
        None, "CPU threads", low=1, high=1024, empty="all", group="devices", work=False,
        help="Empty: all cores.",
    )  # fmt: skip
    seed: int = option(0, "Seed", high=2**31 - 1, work=False, help="Seed of the inputs drawn.")


@dataclass(frozen=True)
class Problem(Options):
    """Irreps of both inputs, what to keep, and how to run; see the README for the words.

    Options have fields of their own, declared in :class:`Options`; more is said there.

    Attributes:
        irreps1: Irreps of input 1.
        irreps2: Irreps of input 2: of the same multiplicity for pairs, of one channel for edges; of
            a power those of input 1, which every factor has.
        filter_out: Output irreps to keep, None for all; of a power always named.
        setting: Setting of the paper that these irreps are, None for typed ones.
        lmax: Largest degree of an input.
        device: ``"cpu"`` or ``"cuda:N"``.

    Raises:
        ValueError: Naming the field of any bad value.

    Examples:
        >>> problem = Problem.of_setting("MIMO", 2, batch=100, dtype="float64")
        >>> problem.command()
        '--setting MIMO --lmax 2 --batch 100 --dtype float64'
        >>> Problem.of_setting("MIMO", 2, batch=0)
        Traceback (most recent call last):
        ValueError: batch must be a whole number from 1 to 10000000, got 0
    """

    irreps1: str
    irreps2: str
    filter_out: str | None = None
    setting: Setting | None = None
    lmax: int = 0
    device: str = option("cpu", "Device", rule=_device, work=False, help="cpu or cuda:N.")

    def __post_init__(self) -> None:
        check_options(self)
        _check_names(self)
        if self.matmul != "exact" and (self.device == "cpu" or self.dtype != "float32"):
            raise ValueError(
                f"matmul {self.matmul!r} is float32 on an NVIDIA GPU, got {self.dtype} on "
                f"{self.device}: choose 'exact'"
            )
        if self.kind == "power":
            self._check_power()
            return
        self._check_channels()
        if not self.triples():
            raise EmptyProblemError(why_empty(self.irreps1, self.irreps2, str(self.filter_out)))

    @classmethod
    def of_setting(
        cls, setting: Setting, lmax: int, *, outputs: Outputs = "all", **rest: Any
    ) -> Problem:
        """Problem of one of the paper's settings at one ``lmax``.

        Args:
            setting: SISO, SIMO or MIMO.
            lmax: Degree of the inputs, or the largest.
            outputs: Parities that are kept.
            **rest: Other fields.
        """
        _check_degree(lmax)
        if setting not in SETTINGS:
            raise ValueError(f"setting must be one of {', '.join(SETTINGS)}, got {setting!r}")
        irreps1, irreps2, keep = setting_irreps(setting, lmax, outputs)
        if rest.get("kind") == "power":
            rest, keep = _of_power(rest), keep or irreps1
        return cls(irreps1, irreps2, keep, setting, lmax, outputs=outputs, **rest)

    @classmethod
    def of_irreps(
        cls, irreps1: str, irreps2: str | None, filter_out: str | None = None, **rest: Any
    ) -> Problem:
        """Problem of any irreps, of the kind that is named or that their multiplicities say.

        A common multiplicity of both inputs multiplies ``channels``.

        Args:
            irreps1: Irreps of input 1, such as ``"4x0e+4x1o"``.
            irreps2: Irreps of input 2; None for a power, whose factors are all equal.
            filter_out: Output irreps to keep, None for all, or for those of the input of a power.
            **rest: Other fields. Of a power ``weights`` are ``shared`` where nothing is said.

        Raises:
            ValueError: If the multiplicities fit no kind, or another than the named one.
        """
        if rest.get("kind") == "power":
            rest = _of_power(rest)
            irreps2, filter_out = irreps2 or irreps1, filter_out or irreps1
        if irreps2 is None:
            raise ValueError("irreps2 must be given: only a power has one input")
        first, second = parse_terms(irreps1, "irreps1"), parse_terms(irreps2, "irreps2")
        if rest.get("kind", "pair") == "pair":
            rest["kind"] = meeting(first, second, ("irreps1", "irreps2"))
        if rest["kind"] in ("pair", "power"):
            count = channels(first, "irreps1")
            texts = [to_text(Term(1, ir) for ir in multiplicities(t)) for t in (first, second)]
            rest["channels"] = rest.get("channels", 1) * count
        else:
            texts = [to_text(first), to_text(second)]
        if filter_out is not None:
            filter_out = to_text(Term(1, ir) for ir in _irreps(filter_out, "filter_out"))
        lmax = max(ir.l for ir in _irreps(texts[0]) + _irreps(texts[1]))
        return cls(texts[0], texts[1], filter_out, None, lmax, **rest)

    def _check_channels(self) -> None:
        first, second = (
            multiplicities(parse_terms(text, field))
            for field, text in (("irreps1", self.irreps1), ("irreps2", self.irreps2))
        )
        counts = {*first.values()}, {*second.values()}
        if self.kind == "pair" and (counts[0] != counts[1] or len(counts[0]) > 1):
            raise ValueError(
                "irreps1 and irreps2 must have the same multiplicity for kind 'pair', got "
                f"{self.irreps1} and {self.irreps2}: channel u of input 1 meets channel u of "
                "input 2. Give irreps2 multiplicity 1 and choose kind 'edge', or equal ones"
            )
        if self.kind != "pair" and counts[1] != {1}:
            single = to_text(Term(1, ir) for ir in second)
            raise ValueError(
                f"irreps2 must have multiplicity 1 for kind {self.kind!r}, got {self.irreps2}: "
                f"its one channel meets every channel of input 1. Give {single}"
            )

    def _check_power(self) -> None:
        counts = multiplicities(parse_terms(self.irreps1, "irreps1")).values()
        if self.irreps2 != self.irreps1 or {*counts} != {1}:
            raise ValueError(
                "irreps2 must be irreps1 for kind 'power', each irrep once, since all factors are "
                f"equal, got {self.irreps1} and {self.irreps2}: leave irreps2 out, and give copies "
                "as channels"
            )
        if self.weights not in ("shared", "per-sample"):
            raise ValueError(
                f"weights must be 'shared' or 'per-sample' for kind 'power', got {self.weights!r}: "
                "a power is the sum of its couplings that the weights make"
            )
        if self.elements > 1 and self.weights != "shared":
            raise ValueError(
                f"elements must be 1 where each node has weights of its own, got {self.elements}: "
                "choose weights 'shared', which the nodes of an element share"
            )
        own = tuple(_irreps(self.irreps1))
        known = {ir for counts in symmetric_powers(own, self.order) for ir in counts}
        lost = [ir for ir in self.outputs_kept() if ir not in known]
        if lost or not self.outputs_kept():
            raise EmptyProblemError(
                f"filter_out must name irreps that products of up to {self.order} factors of "
                f"{self.irreps1} hold, got {self.filter_out}: "
                f"leave out {', '.join(map(str, lost)) or 'nothing'}"
            )

    def outputs_kept(self) -> list[Ir]:
        """Irreps that the filter names; those of the input for a power without one."""
        return _irreps(self.filter_out or self.irreps1, "filter_out")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as stored in rows and addresses."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Problem:
        """Inverse of :meth:`as_dict`; unknown names are an error."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"problem has no field {unknown[0]!r}; known: {', '.join(known)}")
        for name in ("irreps1", "irreps2"):
            if name not in values:
                raise ValueError(f"problem must have {name}, got {', '.join(values) or 'nothing'}")
        return cls(**values)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Values of the fields that have a default."""
        return {field.name: field.default for field in fields(cls) if field.default is not MISSING}

    def at(self, **changes: Any) -> Problem:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def triples(self) -> list[Triple]:
        """Paths that the selection rules allow and the filter keeps; of a power, of two factors."""
        if self.kind == "power":
            return list(_triples(self.irreps1, self.irreps2, None))
        return list(_triples(self.irreps1, self.irreps2, self.filter_out))

    def size(self) -> Size:
        """Paths, outputs and bytes when every path is kept apart; of a power its polynomials."""
        if self.kind == "power":
            return self._size_of_power()
        triples, copies = self.triples(), self.copies()
        outputs = sum(copies[ir1] * (2 * ir3.l + 1) for ir1, _, ir3 in triples)
        first = sum(count * (2 * ir.l + 1) for ir, count in copies.items())
        second = sum(2 * ir.l + 1 for ir in _irreps(self.irreps2))
        if self.kind == "pair":
            second *= self.channels
        numbers = (second + (first + outputs) / self.shared_by) * self.batch
        return Size(len(triples), outputs, int(numbers) * ITEMSIZE[self.dtype])

    def _size_of_power(self) -> Size:
        own, kept = _irreps(self.irreps1), self.outputs_kept()
        paths = allowed_polynomials(own, self.order, kept)
        first, outputs = (self.channels * sum(2 * ir.l + 1 for ir in irs) for irs in (own, kept))
        return Size(paths, outputs, (first + outputs) * self.batch * ITEMSIZE[self.dtype])

    def copies(self) -> dict[Ir, int]:
        """Channels of each irrep of input 1."""
        terms = parse_terms(self.irreps1, "irreps1")
        return {ir: mul * self.channels for ir, mul in multiplicities(terms).items()}

    @property
    def shared_by(self) -> int:
        """Samples that share a row of input 1 and of the output: the neighbours of a node."""
        return self.neighbours if self.kind == "convolution" else 1

    def work(self) -> tuple[Any, ...]:
        """What was multiplied and how, wherever it ran: equal for times that compare."""
        about = declared(self)
        values = [value for name, value in chosen(self).items() if about[name].work]
        return self.irreps1, self.irreps2, self.filter_out, *values

    def words(self, **instead: str) -> list[str]:
        """Words of the command line that describe this problem, quoted for a shell.

        Args:
            **instead: What follows the flag of a field instead of its value, such as a range.
        """
        if self.setting is not None:
            given = {"setting": self.setting, "lmax": str(self.lmax)}
        else:
            given = {"irreps1": self.irreps1}
            if self.kind != "power":
                given["irreps2"] = self.irreps2
            if self.filter_out is not None:
                given["filter_out"] = self.filter_out
        given |= {
            name: str(value)
            for name, value in chosen(self).items()
            if value != getattr(type(self), name)
        }
        if self.setting is None:
            given.pop("outputs", None)
        quoted = {name: shlex.quote(value) for name, value in given.items()} | instead
        return [f"{flag(name)} {text}" for name, text in quoted.items()]

    def command(self) -> str:
        """Options of the command line that describe this problem."""
        return " ".join(self.words())


@lru_cache(maxsize=500)
def _triples(irreps1: str, irreps2: str, filter_out: str | None) -> tuple[Triple, ...]:
    keep = None if filter_out is None else _irreps(filter_out, "filter_out")
    return tuple(selection_rule(_irreps(irreps1, "irreps1"), _irreps(irreps2, "irreps2"), keep))


def _of_power(rest: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a power: one that says nothing of weights shares them."""
    weights = rest.get("weights", "none")
    return {**rest, "weights": "shared" if weights == "none" else weights}


def _irreps(text: str, field: str = "irreps") -> list[Ir]:
    return list(multiplicities(parse_terms(text, field)))


def _check_names(problem: Problem) -> None:
    """Refuse what is no setting, no degree and no irreps to keep."""
    if problem.setting is not None and problem.setting not in SETTINGS:
        raise ValueError(f"setting must be one of {', '.join(SETTINGS)}, got {problem.setting!r}")
    _check_degree(problem.lmax)


def _check_degree(lmax: object) -> None:
    if isinstance(lmax, bool) or not isinstance(lmax, int) or not 0 <= lmax <= MAX_DEGREE:
        raise ValueError(f"lmax must be a whole number from 0 to {MAX_DEGREE}, got {lmax!r}")

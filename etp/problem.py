"""A problem: which irreps are multiplied, how many of them, how precisely and where.

Imports neither torch nor e3nn: pages, the store and the command line describe work with it before
anything heavy is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, NamedTuple, get_args

from etp.irreps import (
    Ir,
    Outputs,
    Setting,
    Term,
    channels,
    multiplicities,
    parse_terms,
    selection_rule,
    setting_irreps,
    to_text,
    why_empty,
)

DType = Literal["float32", "float64", "bfloat16"]
Direction = Literal["forward", "backward", "double-backward"]
Cache = Literal["warm", "cold"]
Weights = Literal["none", "shared", "per-sample", "balanced"]
Matmul = Literal["exact", "tf32"]
Axis = Literal["lmax", "batch", "channels"]
"""Sizes that a sweep can go along."""
ITEMSIZE: dict[DType, int] = {"float32": 4, "float64": 8, "bfloat16": 2}
MAX_BATCH = 10_000_000
MAX_CHANNELS = 4096

Triple = tuple[Ir, Ir, Ir]


class Size(NamedTuple):
    """What a problem asks for, when every allowed path is kept apart, before it is run.

    Attributes:
        paths: Number of triples (l1, l2, l3) that the selection rules allow.
        outputs: Numbers per sample in the output, all channels.
        bytes: Bytes of both inputs and the output for the whole batch.
    """

    paths: int
    outputs: int
    bytes: int


@dataclass(frozen=True)
class Problem:
    """Irreps of both inputs, what to keep, and how to run; see the README for the words.

    ``direction="backward"`` is forward and backward together, ``"double-backward"`` adds the
    derivative of the gradient. ``weights`` says whether the product is called with free weights,
    one set or one for each sample, or with the set that
    balances its paths. ``matmul="tf32"`` lets float32 matrix products round their
    factors to 10 bits, as NVIDIA's tensor cores can. Raises ``ValueError`` naming the field for any
    bad value.
    """

    irreps1: str
    irreps2: str
    filter_out: str | None = None
    setting: Setting | None = None
    lmax: int = 0
    outputs: Outputs = "all"
    batch: int = 1000
    channels: int = 1
    dtype: DType = "float32"
    direction: Direction = "forward"
    device: str = "cpu"
    threads: int | None = None
    cache: Cache = "warm"
    weights: Weights = "none"
    matmul: Matmul = "exact"
    seed: int = 0

    def __post_init__(self) -> None:
        _check_choice("dtype", self.dtype, get_args(DType))
        _check_choice("direction", self.direction, get_args(Direction))
        _check_choice("cache", self.cache, get_args(Cache))
        _check_choice("weights", self.weights, get_args(Weights))
        _check_choice("matmul", self.matmul, get_args(Matmul))
        _check_range("batch", self.batch, 1, MAX_BATCH)
        _check_range("channels", self.channels, 1, MAX_CHANNELS)
        _check_range("seed", self.seed, 0, 2**31 - 1)
        if self.threads is not None:
            _check_range("threads", self.threads, 1, 1024)
        if not isinstance(self.device, str) or not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise ValueError(f"device must be 'cpu' or 'cuda:N', got {self.device!r}")
        if self.matmul != "exact" and (self.device == "cpu" or self.dtype != "float32"):
            raise ValueError(
                f"matmul {self.matmul!r} is float32 on an NVIDIA GPU, got {self.dtype} on "
                f"{self.device}: choose 'exact'"
            )
        counts = [
            channels(parse_terms(text, field), field)
            for field, text in (("irreps1", self.irreps1), ("irreps2", self.irreps2))
        ]
        if counts[0] != counts[1]:
            raise ValueError(
                f"irreps1 and irreps2 must have the same multiplicity, got {counts[0]} and "
                f"{counts[1]}: channel u of input 1 meets channel u of input 2"
            )
        if not self.triples():
            raise ValueError(why_empty(self.irreps1, self.irreps2, str(self.filter_out)))

    @classmethod
    def of_setting(
        cls, setting: Setting, lmax: int, *, outputs: Outputs = "all", **rest: Any
    ) -> Problem:
        """Problem of one of the paper's settings at one ``lmax``."""
        _check_range("lmax", lmax, 0, 20)
        irreps1, irreps2, keep = setting_irreps(setting, lmax, outputs)
        return cls(irreps1, irreps2, keep, setting, lmax, outputs, **rest)

    @classmethod
    def of_irreps(
        cls, irreps1: str, irreps2: str, filter_out: str | None = None, **rest: Any
    ) -> Problem:
        """Problem of any irreps; a multiplicity in them multiplies ``channels``."""
        texts, count = [], 1
        for field, text in (("irreps1", irreps1), ("irreps2", irreps2)):
            terms = parse_terms(text, field)
            count = channels(terms, field)
            texts.append((to_text(Term(1, ir) for ir in multiplicities(terms)), count))
        if texts[0][1] != texts[1][1]:
            raise ValueError(
                f"irreps1 and irreps2 must have the same multiplicity, got {texts[0][1]} and "
                f"{texts[1][1]}: channel u of input 1 meets channel u of input 2"
            )
        if filter_out is not None:
            filter_out = to_text(Term(1, ir) for ir in _irreps(filter_out, "filter_out"))
        rest["channels"] = rest.get("channels", 1) * count
        lmax = max(ir.l for ir in _irreps(texts[0][0]) + _irreps(texts[1][0]))
        return cls(texts[0][0], texts[1][0], filter_out, None, lmax, **rest)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as stored in rows and addresses."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Problem:
        """Inverse of :meth:`as_dict`; unknown names are an error."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"problem has no field {unknown[0]!r}; known: {', '.join(known)}")
        return cls(**values)

    def at(self, **changes: Any) -> Problem:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def triples(self) -> list[Triple]:
        """Paths that the selection rules allow and the filter keeps."""
        keep = None if self.filter_out is None else _irreps(self.filter_out, "filter_out")
        return selection_rule(
            _irreps(self.irreps1, "irreps1"), _irreps(self.irreps2, "irreps2"), keep
        )

    def size(self) -> Size:
        """Paths, outputs and bytes when every path is kept apart."""
        triples = self.triples()
        outputs = self.channels * sum(2 * ir3.l + 1 for _, _, ir3 in triples)
        inputs = self.channels * sum(
            2 * ir.l + 1 for text in (self.irreps1, self.irreps2) for ir in _irreps(text)
        )
        return Size(len(triples), outputs, (inputs + outputs) * self.batch * ITEMSIZE[self.dtype])

    def command(self) -> str:
        """Options of the command line that describe this problem."""
        if self.setting is not None:
            words = [f"--setting {self.setting} --lmax {self.lmax}"]
        else:
            words = [f'--irreps1 "{self.irreps1}" --irreps2 "{self.irreps2}"']
            if self.filter_out is not None:
                words.append(f'--filter-out "{self.filter_out}"')
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _OPTIONS and value != field.default:
                words.append(f"--{field.name} {value}")
        return " ".join(words)


_OPTIONS = (
    "outputs", "batch", "channels", "dtype", "direction", "device", "threads", "cache", "weights",
    "matmul", "seed",
)  # fmt: skip


def _irreps(text: str, field: str = "irreps") -> list[Ir]:
    return list(multiplicities(parse_terms(text, field)))


def _check_choice(field: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{field} must be one of {', '.join(choices)}, got {value!r}")


def _check_range(field: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{field} must be a whole number from {low} to {high}, got {value!r}")

"""What a user has chosen: read from an address, checked, written back, turned into cases.

Everything typed or linked passes through here, so a page never meets a value that was not checked.
No torch, no streamlit.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, get_args

from etp import presets
from etp.experiments.settings import POWERS, LearnedWeights
from etp.irreps import SETTINGS, widened
from etp.kernels.torch_compile import SUFFIX, asked, plain_name
from etp.options import chosen, declared
from etp.problem import MAX_BATCH, MAX_CHANNELS, Axis, DType, Options, Problem
from etp.results.rows import STATUSES

CUSTOM = "Custom"
COMPILED = ("no", "also")
STUDIES = ("tetris", "potential", "step-time")
LAYER_KINDS = ("convolution", "edge")
LAYER_WEIGHTS = ("per-sample", "shared")
MAX_LMAX = 10
MAX_SIZES = 12
QUICK = ("cg-sparse", "gaunt-grid", "matrix", "e3nn")


@dataclass(frozen=True)
class Settings(Options):
    """Choices shared by the pages; every field has a name in the address.

    The options of a problem are among them, as :class:`etp.problem.Options` declares them.

    Attributes:
        setting: ``SISO``, ``SIMO``, ``MIMO``, or ``Custom`` for typed irreps.
        lmax: Smallest and largest lmax of a run.
        irreps1: Typed irreps of input 1, used when ``setting`` is ``Custom``.
        irreps2: Typed irreps of input 2.
        keep: Typed output irreps to keep, empty for all.
        baseline: Product that others are compared against.
        at: The lmax shown, None for the largest.
        pick: The product highlighted in every chart.
        job: Comparison that is shown, None for the reference results.
        checks: Run of equivariance checks that is shown.
        counts: Run of expressivity counts that is shown.
        scaling: Run of the scaling page that is shown.
        elsewhere: Device whose times stand beside those.
        study: What the applications page is about.
        tetris: Training on the pieces of Tetris that is shown.
        potential: Training of a potential that is shown.
        power: How powers are computed in it.
        training_steps: Its steps.
        steps_run: Timing of training steps that is shown.
        step_channels: Channels of the networks whose steps are timed.
        layers: Layers of a training.
        width: Copies of each irrep in its nodes.
        seeds: A training for each.
        learning_weights: Weights of the product in a training.
        layer: Layer of a published model, or ``Custom`` for typed irreps.
        layer_kind: ``convolution`` or ``edge``.
        layer_weights: Weights of its edges, ``per-sample`` or ``shared``.
        edges: Edges of that layer.
        layer_run: Comparison on a layer that is shown.
        share: Of a forward or a step that the layers of a model take, in percent; None where it
            was not said.
        compiled: Whether every product is also run under ``torch.compile``.
        axis: What changes along the scaling page.
        batches: Batches of a run along that axis.
        channel_counts: Channels of a run along that axis.
        sphere: Product whose spheres are shown.
        sphere_beside: Product whose spheres stand below them.
        degrees_of: Number type whose errors by degree are shown.
        mirror: Product whose reading of a piece and its mirror image is shown.
        map: Product whose map of interacting degrees is shown.
        beside: Product whose map stands beside it.
        filter: Text that rows of the results page must match.
        statuses: Statuses of the rows that it lists.
        a: Run that is compared there.
        b: Run that it is compared with.
    """

    setting: str = "MIMO"
    lmax: tuple[int, int] = (1, 4)
    irreps1: str = "0e + 1o + 2e"
    irreps2: str = "0e + 1o + 2e"
    keep: str = ""
    products: tuple[str, ...] = QUICK
    baseline: str | None = None
    compiled: str = "no"
    devices: tuple[str, ...] = ("cpu",)
    at: int | None = None
    pick: str | None = None
    job: str | None = None
    checks: str | None = None
    counts: str | None = None
    scaling: str | None = None
    elsewhere: str | None = None
    study: str = "tetris"
    tetris: str | None = None
    potential: str | None = None
    power: str = "cg"
    training_steps: int = 240
    steps_run: str | None = None
    step_channels: int = 16
    layers: int = 3
    width: int = 8
    seeds: tuple[int, ...] = (0, 1, 2)
    learning_weights: str = "none"
    layer: str = "mace-medium"
    layer_kind: str = "convolution"
    layer_weights: str = "per-sample"
    edges: int = 1000
    layer_run: str | None = None
    share: int | None = None
    axis: str = "lmax"
    batches: tuple[int, ...] = (10, 100, 1000, 10000)
    channel_counts: tuple[int, ...] = (1, 4, 16, 64)
    sphere: str | None = None
    sphere_beside: str | None = None
    degrees_of: str | None = None
    map: str | None = None
    beside: str | None = None
    mirror: str | None = None
    filter: str = ""
    statuses: tuple[str, ...] = STATUSES
    a: str | None = None
    b: str | None = None

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> tuple[Settings, list[str]]:
        """Read an address; what cannot be used is left at its default and said in words."""
        values: dict[str, Any] = {}
        errors = []
        for name, read in _READERS.items():
            if name not in query:
                continue
            try:
                values[name] = read(name, query[name])
            except ValueError as error:
                errors.append(f"address: {error}; the default is used")
        return cls(**values), errors

    def to_query(self) -> dict[str, str]:
        """What an address needs to bring these settings back; defaults are left out."""
        return {
            field.name: _written(getattr(self, field.name), _MARKS.get(field.name, ","))
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }

    def with_(self, **changes: Any) -> Settings:
        """Copy with some choices changed."""
        return replace(self, **changes)

    def names(self) -> tuple[str, ...]:
        """Products of a run, each followed by its compiled form where that is asked for."""
        if self.compiled == "no":
            return self.products
        return tuple(form for name in self.products for form in (name, name + SUFFIX))

    def problems(self, device: str | None = None) -> list[Problem]:
        """Problems of a run, smallest first.

        Raises:
            ValueError: Naming the field that is wrong and the mend.
        """
        return list(_problems(self, device))

    def degrees(self) -> list[int]:
        """Every lmax of a run; odd ones are left out where nothing would be left of them."""
        span = range(self.lmax[0], self.lmax[1] + 1)
        if self.setting == "SISO" and self.outputs == "natural":
            # Odd times odd is even: no path leads to the natural parity of an odd degree.
            return [lmax for lmax in span if lmax % 2 == 0]
        return list(span)

    def command(self) -> str:
        """Command line that measures the same.

        Raises:
            ValueError: As :meth:`problems`.
        """
        problem = self.problems(self.devices[0])[0]
        words = problem.words()
        if self.setting != CUSTOM:
            degrees = self.degrees()
            words = problem.words(lmax=degrees_text(degrees))
        return sweep_command(self.names(), words, self.baseline)

    def snippet(self, product: str) -> str:
        """Python that does the same for one product.

        Raises:
            ValueError: As :meth:`problems`.
        """
        problem = self.problems(self.devices[0])[-1]
        keep = f", filter_ir_out={problem.filter_out!r}" if problem.filter_out else ""
        irreps1, irreps2 = (
            widened(text, problem.channels) for text in (problem.irreps1, problem.irreps2)
        )
        compiled = "tp.compile()\n" if asked(product) else ""
        return (
            "import torch\n"
            "from etp import measure, products\n\n"
            f"{_of_process(problem)}"
            f"tp = products.get({plain_name(product)!r})({irreps1!r}, {irreps2!r}{keep})\n"
            f"{compiled}"
            f"measure.agreement(tp, dtype=torch.{problem.dtype}).max\n"
            f"measure.equivariance_error(tp, dtype=torch.{problem.dtype}).max\n"
            "measure.measure_runtime(\n"
            f"    tp, batch={problem.batch}, dtype=torch.{problem.dtype},"
            f" device={problem.device!r}, direction={problem.direction!r},\n"
            f"    weights={problem.weights!r}, cache={problem.cache!r}, seed={problem.seed}\n"
            ").median_s\n"
        )


def _of_process(problem: Problem) -> str:
    """What torch keeps for the whole process, as :func:`etp.run.case.case.use_numbers` sets it."""
    lines = []
    if problem.threads is not None:
        lines.append(f"torch.set_num_threads({problem.threads})\n")
    if problem.matmul != "exact":
        lines.append('torch.set_float32_matmul_precision("high")\n')
    return "".join(lines)


@lru_cache(maxsize=500)
def _problems(settings: Settings, device: str | None) -> tuple[Problem, ...]:
    common = chosen(settings)
    devices = (device,) if device else settings.devices
    if not devices:
        raise ValueError("devices: choose at least one")
    if settings.kind == "power":
        raise ValueError(
            "kind: these products have two inputs, got 'power': powers have the page Layers, at "
            "mace-medium-power"
        )
    if settings.setting == CUSTOM:
        del common["outputs"]
        return tuple(
            Problem.of_irreps(
                settings.irreps1,
                settings.irreps2,
                settings.keep.strip() or None,
                device=d,
                **common,
            )
            for d in devices
        )
    if not settings.degrees():
        raise ValueError(
            "lmax: no path is left, because odd times odd is even; choose an even lmax or all "
            "output parities"
        )
    return tuple(
        Problem.of_setting(
            settings.setting,  # type: ignore[arg-type]
            lmax,
            device=d,
            **common,
        )
        for lmax in settings.degrees()
        for d in devices
    )


def degrees_text(degrees: Sequence[int]) -> str:
    """How the command line writes evenly spaced degrees: ``1:4``, ``2:6:2``."""
    if len(degrees) == 1:
        return str(degrees[0])
    step = degrees[1] - degrees[0]
    return f"{degrees[0]}:{degrees[-1]}" + (f":{step}" if step > 1 else "")


def sweep_command(names: Sequence[str], words: Sequence[str], baseline: str | None = None) -> str:
    """Command line that measures products; every word of it is quoted for a shell.

    Args:
        names: Products.
        words: Of the problem.
        baseline: Comes first where it is among them: the command line times its twin.
    """
    names = sorted(names, key=lambda name: name != baseline)
    products = shlex.quote(",".join(names))
    return f"python -m etp sweep --products {products} {' '.join(words)} --out results.jsonl"


_MARKS = {"lmax": ":"}


def _written(value: Any, mark: str) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return mark.join(str(v) for v in value)
    return str(value)


def _choice(*allowed: str) -> Callable[[str, str], str]:
    def read(name: str, text: str) -> str:
        if text not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {text[:40]!r}")
        return text

    return read


def _choices(*allowed: str) -> Callable[[str, str], tuple[str, ...]]:
    read_one = _choice(*allowed)

    def read(name: str, text: str) -> tuple[str, ...]:
        wanted = {read_one(name, part) for part in text.split(",") if part}
        return tuple(value for value in allowed if value in wanted)

    return read


def _number(low: int, high: int) -> Callable[[str, str], int]:
    def read(name: str, text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ValueError(
                f"{name} must be a whole number from {low} to {high}, got {text[:40]!r}"
            )
        return value

    return read


def _counts(low: int, high: int) -> Callable[[str, str], tuple[int, ...]]:
    read_one = _number(low, high)

    def read(name: str, text: str) -> tuple[int, ...]:
        numbers = sorted({read_one(name, part) for part in text.split(",")})
        if len(numbers) > MAX_SIZES:
            raise ValueError(f"{name} must be at most {MAX_SIZES} numbers, got {len(numbers)}")
        return tuple(numbers)

    return read


def _range(name: str, text: str) -> tuple[int, int]:
    low, _, high = text.partition(":")
    read = _number(0, MAX_LMAX)
    first, last = read(name, low), read(name, high or low)
    if first > last:
        raise ValueError(f"{name} must be FROM:TO with FROM <= TO, got {text[:40]!r}")
    return first, last


def _names(name: str, text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names or not all(map(_NAME.fullmatch, names)):
        raise ValueError(
            f"{name} must be names separated by commas (letters, digits and ._+:-), "
            f"got {text[:40]!r}"
        )
    return names


def _shown_name(name: str, text: str) -> str:
    if not _SHOWN_NAME.fullmatch(text):
        raise ValueError(f"{name} must be the name of a product that is shown, got {text[:40]!r}")
    return text


def _one_name(name: str, text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"{name} must be a name (letters, digits and ._+:-), got {text[:40]!r}")
    return text


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:-]{0,63}")
"""What may name a product, a device or a run in an address: nothing that a shell reads as more."""
_SHOWN_NAME = re.compile(r"[A-Za-z0-9][\w.+()/, -]{0,79}")
"""What may name a product of a file: what :mod:`etp.results.imports` leaves of its name."""


def _text(name: str, text: str) -> str:
    if len(text) > 1000:
        raise ValueError(f"{name} must have at most 1000 characters, got {len(text)}")
    return text


_READERS: dict[str, Callable[[str, str], Any]] = {
    **{name: about.read for name, about in declared(Options).items()},
    "setting": _choice(*SETTINGS, CUSTOM),
    "lmax": _range,
    "irreps1": _text,
    "irreps2": _text,
    "keep": _text,
    "products": _names,
    "baseline": _shown_name,
    "compiled": _choice(*COMPILED),
    "devices": _names,
    "at": _number(0, MAX_LMAX),
    "pick": _shown_name,
    "job": _one_name,
    "checks": _one_name,
    "counts": _one_name,
    "scaling": _text,
    "elsewhere": _text,
    "study": _choice(*STUDIES),
    "tetris": _one_name,
    "potential": _one_name,
    "power": _choice(*POWERS),
    "training_steps": _number(1, 100_000),
    "steps_run": _one_name,
    "step_channels": _number(1, 1024),
    "layer": _choice(*presets.LAYERS, CUSTOM),
    "layer_kind": _choice(*LAYER_KINDS),
    "layer_weights": _choice(*LAYER_WEIGHTS),
    "edges": _number(1, MAX_BATCH),
    "layer_run": _one_name,
    "share": _number(0, 100),
    "layers": _number(1, 6),
    "width": _number(1, 256),
    "seeds": _counts(0, 2**31 - 1),
    "learning_weights": _choice(*get_args(LearnedWeights)),
    "axis": _choice(*get_args(Axis)),
    "batches": _counts(1, MAX_BATCH),
    "channel_counts": _counts(1, MAX_CHANNELS),
    "sphere": _text,
    "sphere_beside": _text,
    "degrees_of": _choice(*get_args(DType)),
    "map": _text,
    "beside": _text,
    "mirror": _text,
    "filter": _text,
    "statuses": _choices(*STATUSES),
    "a": _text,
    "b": _text,
}

"""A case: one problem and the products to compare on it, and whether it fits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from typing import Any

from etp.irreps import Term, to_text, widened
from etp.kernels import torch_compile
from etp.problem import ITEMSIZE, Kind, Problem
from etp.run.config import TooLargeError
from etp.text import bytes_text, count_text

DEFAULT_ROUNDS = 30
DEFAULT_BUDGET_S = 4.0
ELEMENTS = 16
ASKED = ("agreement", "equivariance", "expressivity", "interactions", "cost")
MEMORY_FACTOR = {"forward": 4, "backward": 8, "double-backward": 16}
"""Peak memory over the bytes of inputs, outputs and grids, at most, for any product (measured)."""
GRIDS = 8
"""Fields on a grid that count beside inputs and outputs: what vector signals hold (measured)."""

OVERCOMPLETE = 6
"""Weights of a power over its independent polynomials, at most (measured, to order 4)."""


@dataclass(frozen=True)
class Case:
    """One problem, the products to compare on it, and how long to look.

    Attributes:
        products: Names; the first is the reference unless ``reference`` says otherwise.
        rounds: Rounds wanted; fewer if ``budget_s`` does not allow them.
        budget_s: Seconds for the timed rounds.
        elements: Group elements of the equivariance check.
        questions: What is asked about each product besides its runtime.
        timed: Whether runtimes are wanted besides the checks.
        memory: Whether peak memory is wanted.
        roofs: Whether the limits of the device are measured after the rounds.
        group: Earlier group of the same case that these rounds add to; one more look at it.
        look: Number of that look, from 0.
    """

    problem: Problem
    products: tuple[str, ...]
    reference: str | None = None
    rounds: int = DEFAULT_ROUNDS
    budget_s: float = DEFAULT_BUDGET_S
    elements: int = ELEMENTS
    questions: tuple[str, ...] = ASKED
    timed: bool = True
    memory: bool = True
    roofs: bool = False
    group: str | None = None
    look: int = 0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Case:
        """Read a case as stored in a job; raises ``ValueError`` for bad values."""
        known = dict(values)
        problem = Problem.from_dict(known.pop("problem"))
        if "questions" in known:
            known["questions"] = tuple(known["questions"])
        case = cls(problem, tuple(known.pop("products")), **known)
        if case.timed and not {"agreement", "equivariance"} <= set(case.questions):
            raise ValueError(
                "questions must hold agreement and equivariance where products are timed, got "
                f"{', '.join(case.questions)}"
            )
        return case

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        lists = {"products": list(self.products), "questions": list(self.questions)}
        return asdict(self) | lists


@lru_cache(1000)
def needed_bytes(problem: Problem) -> int:
    """Upper estimate of the memory a case takes while it runs."""
    size = problem.size()
    copies = problem.copies()
    if problem.kind == "power":
        total = problem.order * problem.lmax + max(ir.l for ir in problem.outputs_kept())
        own = problem.weights == "per-sample"
        each = OVERCOMPLETE * size.paths * problem.channels
        weights, sets = (each if own else 0), each * (problem.elements - 1)
    else:
        sets = 0
        total = sum(max(ir.l for ir in irs) for irs in zip(*problem.triples(), strict=True))
        free = problem.weights != "none"
        weights = sum(copies[ir] for ir, _, _ in problem.triples()) if free else 0
    points = problem.batch * max(copies.values()) * (total // 2 + 1) * (total + 1)
    numbers = GRIDS * points + weights * problem.batch + sets
    return MEMORY_FACTOR[problem.direction] * (size.bytes + numbers * ITEMSIZE[problem.dtype])


def check_fits(problem: Problem) -> None:
    """Refuse a case that cannot fit into the memory of its device.

    Raises:
        TooLargeError: With the estimate and the mend.
    """
    from etp.run.devices import free_bytes

    need, have = needed_bytes(problem), free_bytes(problem.device)
    if have is None or need <= SHARE * have:
        return
    fits = int(problem.batch * SHARE * have / need)
    most = f"use a batch of at most {count_text(fits)}, fewer channels"
    mend = most if fits else "use fewer channels"
    raise TooLargeError(
        f"batch {count_text(problem.batch)} needs about {bytes_text(need, 3)} and "
        f"{bytes_text(have, 3)} are free on {problem.device}: {mend} or a smaller lmax",
        fits or None,
    )


SHARE = 0.8
"""Of the free memory, what a case may take."""


def use_numbers(problem: Problem) -> None:
    """Set what torch keeps for the whole process: threads, and how exact matrix products are."""
    import torch

    usual = _usual_threads()
    torch.set_num_threads(usual if problem.threads is None else problem.threads)
    torch.set_float32_matmul_precision("highest" if problem.matmul == "exact" else "high")


@cache
def _usual_threads() -> int:
    """Threads of the process before a case has chosen others."""
    import torch

    return torch.get_num_threads()


def build(problem: Problem, product: str, **options: Any) -> Any:
    """Build a product for a problem, on its device; with ``+compile`` behind its name, compiled.

    Args:
        problem: What is multiplied, and where.
        product: Name of the product.
        **options: Of the product's class, such as the layout of its features.

    Raises:
        ValueError: If the product is unknown, cannot run here or has no path.
    """
    cls = makers(problem.kind).get(torch_compile.plain_name(product))
    compiled = torch_compile.asked(product)
    if compiled and (reason := torch_compile.why_not(problem.direction)) is not None:
        raise ValueError(f"{product}: {reason}")
    if (reason := cls.unavailable()) is not None:
        raise ValueError(f"{product} is not available here: {reason}")
    if problem.kind == "power":
        from etp.measure.graph import OnNodes
        from etp.powers._library import LibraryPower

        power = _power(cls, problem, **options)
        if compiled and isinstance(power, LibraryPower):
            raise ValueError(f"{product}: a library's own call is timed, leave +compile out")
        return OnNodes(torch_compile.apply(power) if compiled else power, problem.elements)
    second = problem.channels
    if problem.kind != "pair":
        from etp.products._library import edge_layout

        second, options = 1, {"layout": edge_layout(cls)} | options
    tp: Any = cls(
        widened(problem.irreps1, problem.channels),
        widened(problem.irreps2, second),
        filter_ir_out=problem.filter_out,
        **options,
    )
    if problem.kind == "convolution":
        from etp.measure.graph import OnGraph

        tp = OnGraph(tp, problem.neighbours)
    tp = tp.to(problem.device)
    return torch_compile.apply(tp) if compiled else tp


def makers(kind: Kind) -> Any:
    """Where what a kind of problem needs is listed by name: the products, or the powers."""
    from etp import powers, products

    return powers if kind == "power" else products


def _power(cls: Any, problem: Problem, **options: Any) -> Any:
    """A power for a problem, on its device."""
    out = to_text(Term(1, ir) for ir in problem.outputs_kept())
    power = cls(
        widened(problem.irreps1, problem.channels),
        order=problem.order,
        irreps_out=widened(out, problem.channels),
        **options,
    )
    return power.to(problem.device)

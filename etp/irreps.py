"""Irreps as people type them: parsing with errors they can act on, settings, selection rules.

Imports neither torch nor e3nn, so that a page can check what is typed before either is loaded;
:func:`parse` turns a checked string into ``e3nn.o3.Irreps``, the type of every public interface.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    from etp.e3 import o3

Setting = Literal["SISO", "SIMO", "MIMO"]
Meeting = Literal["pair", "edge"]
"""How channels meet: channel u of both inputs, or all of input 1 with the one of input 2."""
Layout = Literal["mul_ir", "ir_mul"]
"""Whether the copies of an irrep lie one after the other, or its components do."""
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
Outputs = Literal["all", "natural"]
SETTINGS: tuple[Setting, ...] = get_args(Setting)
OUTPUTS: tuple[Outputs, ...] = get_args(Outputs)
MAX_DEGREE = 20
"""Largest degree accepted in an input: tables and Wigner matrices are tested up to twice this."""

MAX_DIGITS = 9
"""Of a number in irreps."""
MAX_GUESSED = 40
"""Terms of irreps that a guess at what was meant may have."""

_TERM = re.compile(r"(?:(?P<mul>\d+)\s*[x*]\s*)?(?P<l>\d+)\s*(?P<p>[eo])")
_PARITY_HINT = "A degree needs a parity: 1o (odd, a vector) or 1e (even, a pseudovector)."


class Ir(NamedTuple):
    """Irrep of O(3): degree ``l`` and parity ``p`` (+1 even, -1 odd)."""

    l: int
    p: int

    @property
    def natural(self) -> bool:
        """Whether the parity is that of a spherical harmonic, (-1)^l."""
        return self.p == (-1 if self.l % 2 else 1)

    def __str__(self) -> str:
        return f"{self.l}{'e' if self.p == 1 else 'o'}"

    def couple(self, other: Ir) -> Iterator[Ir]:
        """Irreps in the product of two: |l1 - l2| <= l3 <= l1 + l2 with parity p1 p2."""
        for l in range(abs(self.l - other.l), self.l + other.l + 1):
            yield Ir(l, self.p * other.p)


class Term(NamedTuple):
    """``mul`` copies of an irrep."""

    mul: int
    ir: Ir


class IrrepsError(ValueError):
    """Irreps that cannot be used: names the field, the position and the mend.

    Attributes:
        field: Name of the argument or control the text came from.
        suggestion: A string that would be accepted, or None where no mend is obvious.

    Examples:
        >>> parse_terms("1o + 2x")
        Traceback (most recent call last):
        etp.irreps.IrrepsError: irreps: position 6: "2x" is not an irrep. ...
    """

    def __init__(self, field: str, problem: str, suggestion: str | None = None) -> None:
        self.field = field
        self.suggestion = suggestion
        mend = f" Did you mean {suggestion}?" if suggestion else ""
        super().__init__(f"{field}: {problem}{mend}")


def parse_terms(text: str, field: str = "irreps") -> tuple[Term, ...]:
    """Read irreps such as ``"4x0e + 4x1o"``, in the order given.

    Raises:
        IrrepsError: If a term is not an irrep, a multiplicity is 0, or a degree exceeds
            :data:`MAX_DEGREE`. The message holds the position (from 1) of the first bad term.

    Examples:
        >>> parse_terms("2x0e+1o")
        (Term(mul=2, ir=Ir(l=0, p=1)), Term(mul=1, ir=Ir(l=1, p=-1)))
    """
    if not isinstance(text, str):
        raise IrrepsError(field, f"must be a string such as '0e + 1o', got {text!r}.")
    return _parsed(text, field)


@lru_cache(maxsize=2000)
def _parsed(text: str, field: str) -> tuple[Term, ...]:
    if not text.strip():
        raise IrrepsError(field, "is empty. Name at least one irrep.", "0e + 1o")
    terms = []
    position = 1
    # Places stay, and errors are one line.
    text = re.sub(r"\s", " ", text)
    for piece in text.split("+"):
        lead = len(piece) - len(piece.lstrip())
        match = _TERM.fullmatch(piece.strip())
        if match is None:
            wrong = _wrong(piece)
            # A number that cannot be read leaves nothing to guess from.
            mended = None if "multiplicity" in wrong else _mended(text)
            raise IrrepsError(field, f"position {position + lead}: {wrong}", mended)
        if max(len(match["mul"] or ""), len(match["l"])) > MAX_DIGITS:
            raise IrrepsError(
                field,
                f'position {position + lead}: "{_short(piece.strip())}" has a number of more than '
                f"{MAX_DIGITS} digits.",
            )
        mul, l = int(match["mul"] or 1), int(match["l"])
        if mul == 0:
            raise IrrepsError(
                field, f'position {position + lead}: "{piece.strip()}" has multiplicity 0.'
            )
        if l > MAX_DEGREE:
            raise IrrepsError(
                field,
                f"position {position + lead}: degree {l} is above {MAX_DEGREE}, the largest "
                "degree supported for an input.",
            )
        terms.append(Term(mul, Ir(l, 1 if match["p"] == "e" else -1)))
        position += len(piece) + 1
    return tuple(terms)


def _wrong(piece: str) -> str:
    """What is wrong with a term that cannot be read."""
    term = _short(piece.strip())
    if not term:
        return "nothing stands here. A + has an irrep before and after it."
    mul, x, rest = term.partition("x")
    if x and rest and not mul.strip().isdecimal() and _TERM.fullmatch(rest.strip()):
        return f'"{_short(mul)}" is not a multiplicity. Before the x stands a whole number from 1.'
    return f'"{term}" is not an irrep. {_PARITY_HINT}'


def _mended(text: str) -> str | None:
    """Best guess at what was meant: separators and case repaired, missing parities natural."""
    terms = []
    for piece in re.split(r"[+,;\s]+", text.lower().strip("+,; ")):
        match = re.match(r"(?:(\d+)[x*])?(\d+)([eo]?)", piece)
        if match is None or len(match[2]) > 4 or int(match[2]) > MAX_DEGREE or match[1] == "0":
            return None
        l = int(match[2])
        mul = f"{match[1]}x" if match[1] else ""
        terms.append(f"{mul}{l}{match[3] or ('o' if l % 2 else 'e')}")
    return " + ".join(terms) if len(terms) <= MAX_GUESSED else None


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def to_text(terms: Iterable[Term]) -> str:
    """Write terms as e3nn does, multiplicity 1 left out: ``0e+2x1o``."""
    return "+".join(f"{mul}x{ir}" if mul != 1 else str(ir) for mul, ir in terms)


def widened(irreps: str, channels: int) -> str:
    """Irreps with ``channels`` times as many copies.

    Examples:
        >>> widened("0e+2x1o", 4)
        '4x0e+8x1o'
    """
    return to_text(Term(term.mul * channels, term.ir) for term in parse_terms(irreps))


def multiplicities(terms: Iterable[Term]) -> dict[Ir, int]:
    """Copies of each irrep in all, in order of first appearance."""
    counts: dict[Ir, int] = {}
    for mul, ir in terms:
        counts[ir] = counts.get(ir, 0) + mul
    return counts


def channels(terms: Iterable[Term], field: str = "irreps") -> int:
    """Return the number of channels C of irreps of the form C x (irreps).

    Raises:
        IrrepsError: If the irreps do not all have the same multiplicity.
    """
    counts = multiplicities(terms)
    if len(set(counts.values())) > 1:
        most = max(counts.values())
        listed = ", ".join(f"{mul} of {ir}" for ir, mul in counts.items())
        raise IrrepsError(
            field,
            "must give every irrep the same multiplicity, because multiplicities are channels "
            f"and channel u meets channel u; got {listed}.",
            to_text(Term(most, ir) for ir in counts),
        )
    return next(iter(counts.values()))


def meeting(
    terms1: Iterable[Term],
    terms2: Iterable[Term],
    names: tuple[str, str] = ("irreps_in1", "irreps_in2"),
) -> Meeting:
    """How the channels of two inputs meet, as their multiplicities say.

    Args:
        terms1: Irreps of input 1.
        terms2: Irreps of input 2.
        names: What both are called in an error.

    Raises:
        IrrepsError: If they do not say it; names both modes and the mend.

    Examples:
        >>> meeting(parse_terms("4x0e"), parse_terms("0e+1o"))
        'edge'
    """
    first, second = multiplicities(terms1), multiplicities(terms2)
    counts1, counts2 = set(first.values()), set(second.values())
    if counts1 == counts2 and len(counts1) == 1:
        return "pair"
    if counts2 == {1}:
        return "edge"
    single = to_text(Term(1, ir) for ir in second)
    if counts1 == {1}:
        mend = "Swap the inputs to use it as an edge product."
    else:
        mend = f"For an edge product give {single}."
    raise IrrepsError(
        names[1],
        "must have multiplicity 1 in every irrep (edge product, e3nn's uvu: its one channel meets "
        f"every channel of {names[0]}) or the same multiplicity as every irrep of {names[0]} (pair "
        f"product, e3nn's uuu: channel u meets channel u), got {_copies(second)} with "
        f"{_copies(first)}. {mend}",
    )


def _copies(counts: dict[Ir, int]) -> str:
    return to_text(Term(mul, ir) for ir, mul in counts.items())


def parse(irreps: str | o3.Irreps, field: str = "irreps") -> o3.Irreps:
    """Return ``e3nn.o3.Irreps`` of checked irreps, in the order given.

    Raises:
        IrrepsError: As :func:`parse_terms`.

    Examples:
        >>> parse("1o + 2x0e")
        1x1o+2x0e
    """
    from etp.e3 import o3

    terms = parse_terms(str(irreps) if isinstance(irreps, o3.Irreps) else irreps, field)
    return o3.Irreps([(mul, tuple(ir)) for mul, ir in terms])


def setting_irreps(
    setting: Setting, lmax: int, outputs: Outputs = "all"
) -> tuple[str, str, str | None]:
    """Irreps of the settings of the paper (section 5): input 1, input 2 and the output filter.

    Inputs carry natural parity. SISO couples degree L with L to L, SIMO couples L with L to every
    degree, MIMO couples 0..L with 0..L to every degree. Outputs have the parity of the selection
    rule; ``outputs="natural"`` keeps natural parities only, as the paper's benchmark did, which
    drops every odd path and leaves SISO at odd L empty.

    Args:
        setting: SISO, SIMO or MIMO.
        lmax: Degree L.
        outputs: ``"all"`` or ``"natural"`` parities.

    Raises:
        ValueError: If the setting is unknown or ``lmax`` is not in 0..:data:`MAX_DEGREE`.

    Examples:
        >>> setting_irreps("MIMO", 2)
        ('0e+1o+2e', '0e+1o+2e', None)
        >>> setting_irreps("SISO", 2)
        ('2e', '2e', '2e')
    """
    if setting not in SETTINGS:
        raise ValueError(f"setting must be one of {', '.join(SETTINGS)}, got {setting!r}")
    if outputs not in OUTPUTS:
        raise ValueError(f"outputs must be one of {', '.join(OUTPUTS)}, got {outputs!r}")
    if not 0 <= lmax <= MAX_DEGREE:
        raise ValueError(f"lmax must be between 0 and {MAX_DEGREE}, got {lmax}")
    degrees = range(lmax + 1) if setting == "MIMO" else [lmax]
    inputs = to_text(Term(1, Ir(l, (-1) ** l)) for l in degrees)
    kept: list[Ir] | None = None
    if setting == "SISO":
        kept = [Ir(lmax, (-1) ** lmax if outputs == "natural" else 1)]
    elif outputs == "natural":
        kept = [Ir(l, (-1) ** l) for l in range(2 * lmax + 1)]
    return inputs, inputs, None if kept is None else to_text(Term(1, ir) for ir in kept)


def selection_rule(
    irreps1: Iterable[Ir], irreps2: Iterable[Ir], keep: Iterable[Ir] | None = None
) -> list[tuple[Ir, Ir, Ir]]:
    """Triples (in1, in2, out) that O(3) allows, of which ``keep`` (None: all) are asked for.

    Args:
        irreps1: Of input 1.
        irreps2: Of input 2.
        keep: Output irreps asked for.

    Examples:
        >>> [str(ir_out) for _, _, ir_out in selection_rule([Ir(1, -1)], [Ir(1, -1)])]
        ['0e', '1e', '2e']
    """
    wanted = None if keep is None else set(keep)
    second = list(irreps2)
    return [
        (ir1, ir2, ir3)
        for ir1 in irreps1
        for ir2 in second
        for ir3 in ir1.couple(ir2)
        if wanted is None or ir3 in wanted
    ]


@lru_cache(maxsize=500)
def symmetric_powers(irreps: tuple[Ir, ...], order: int) -> tuple[dict[Ir, int], ...]:
    """Irreps in the products of 1 to ``order`` equal factors, and how often each is in them.

    Counted by the weights m of the components: what has weight l and not l + 1 heads a degree l.

    Args:
        irreps: Of a factor.
        order: Largest number of factors.

    Examples:
        >>> {str(ir): count for ir, count in symmetric_powers((Ir(1, -1),), 2)[-1].items()}
        {'0e': 1, '2e': 1}
    """
    # By number of factors: how many monomials have a weight m and a parity.
    monomials: list[Counter[tuple[int, int]]] = [Counter() for _ in range(order + 1)]
    monomials[0][0, 1] = 1
    for ir in irreps:
        for m in range(-ir.l, ir.l + 1):
            for factors in range(1, order + 1):
                for (weight, parity), count in list(monomials[factors - 1].items()):
                    monomials[factors][weight + m, parity * ir.p] += count
    return tuple(map(_heads, monomials[1:]))


def _heads(monomials: Counter[tuple[int, int]]) -> dict[Ir, int]:
    heads = {
        Ir(l, p): monomials[l, p] - monomials[l + 1, p] for l, p in sorted(monomials) if l >= 0
    }
    return {ir: count for ir, count in heads.items() if count}


def allowed_polynomials(irreps: Iterable[Ir], order: int, wanted: Iterable[Ir]) -> int:
    """Number of independent equivariant polynomials of degree 1 to ``order``, by characters.

    Args:
        irreps: Of what they are polynomials in.
        order: Largest degree.
        wanted: Irreps of the values.
    """
    every, kept = symmetric_powers(tuple(irreps), order), list(wanted)
    return sum(counts.get(ir, 0) for counts in every for ir in kept)


def why_empty(irreps1: str, irreps2: str, keep: str) -> str:
    """Sentence for a filter that no coupling of the inputs can reach, with the mend.

    Args:
        irreps1: Of input 1.
        irreps2: Of input 2.
        keep: Output irreps asked for.

    Examples:
        >>> why_empty("1o", "1o", "4e")
        'No path leads from 1o x 1o to 4e: odd times odd is even, ... Ask for 0e+1e+2e.'
    """
    ones = list(multiplicities(parse_terms(irreps1)))
    twos = list(multiplicities(parse_terms(irreps2)))
    reachable = sorted({ir3 for _, _, ir3 in selection_rule(ones, twos)})
    mends = [ir for ir in reachable if ir.l in {t.ir.l for t in parse_terms(keep)}] or reachable
    signs = sorted({(a.p, b.p) for a in ones for b in twos})
    words = {1: "even", -1: "odd"}
    rule = " and ".join(f"{words[p]} times {words[q]} is {words[p * q]}" for p, q in signs)
    return (
        f"No path leads from {irreps1} x {irreps2} to {keep}: {rule}, and the degrees must satisfy "
        f"|l1 - l2| <= l3 <= l1 + l2. Ask for {to_text(Term(1, ir) for ir in mends)}."
    )

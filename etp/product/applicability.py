"""What the irreps must satisfy for a product to apply: rules that need neither torch nor e3nn.

A product names its rule; a page can say why it does not apply before anything heavy is loaded.
"""

from __future__ import annotations

from collections.abc import Callable

from etp.irreps import Ir, multiplicities, parse_terms


def reason(rule: str | None, irreps1: str, irreps2: str) -> str | None:
    """Why these irreps break a rule; None if they satisfy it, or if there is no rule.

    Args:
        rule: Name of the rule, or None.
        irreps1: Irreps of input 1.
        irreps2: Irreps of input 2.
    """
    return None if rule is None else RULES[rule](irreps1, irreps2)


def _direction(irreps1: str, irreps2: str) -> str | None:
    """Input 2 is made of spherical harmonics of a direction, which its l = 1 part gives."""
    second = list(multiplicities(parse_terms(irreps2, "irreps2")))
    if unnatural := [str(ir) for ir in second if not ir.natural]:
        return (
            "input 2 must be spherical harmonics of a direction, with parity (-1)^l, and holds "
            f"{', '.join(unnatural)}"
        )
    if Ir(1, -1) not in second:
        return (
            "input 2 must be spherical harmonics of a direction, and the direction is read from "
            f"its 1o part; {irreps2} has none"
        )
    return None


RULES: dict[str, Callable[[str, str], str | None]] = {"direction": _direction}
"""Rules by name."""

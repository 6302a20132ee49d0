"""What is wrong with a question, as changes of it that make it right."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from etp.irreps import IrrepsError
from etp.run.config import TooLargeError
from etp.text import count_text
from etp.ui.plans import PagePlan
from etp.ui.settings import CUSTOM, Settings


class Mend(NamedTuple):
    """A button that makes a question right: its key, its label and what it changes."""

    key: str
    label: str
    changes: dict[str, Any]


class NotHereError(ValueError):
    """What is chosen is not on this machine.

    Args:
        field: What it was chosen for.
        missing: What is not here.
        kept: What was chosen beside it and is here.
        there: All that is here.

    Attributes:
        missing: What is not here, in words.
        mend: Leaves it out, or chooses as usual where nothing would be left.
    """

    def __init__(
        self, field: str, missing: Collection[str], kept: Collection[str], there: Collection[str]
    ) -> None:
        usual = getattr(Settings(), field)
        self.missing = ", ".join(missing)
        label = f"Leave out {self.missing}" if kept else f"Use {', '.join(usual)}"
        self.mend = Mend(f"mend_not_here_{field}", label, {field: tuple(kept) or usual})
        verb = "is" if len(missing) == 1 else "are"
        super().__init__(
            f"{field}: {self.missing} {verb} not on this machine; choose among {', '.join(there)}"
        )


def mends(plan: PagePlan, chosen: Settings, error: ValueError) -> list[Mend]:
    """What would make a question right; nothing where no mend is known.

    Args:
        plan: What the page runs.
        chosen: The question.
        error: What is wrong with it.
    """
    field, _, said = str(error).partition(": ")
    if isinstance(error, NotHereError):
        return [error.mend]
    if isinstance(error, TooLargeError):
        return [] if error.batch is None else [_that_fits(plan, chosen, error.batch)]
    if isinstance(error, IrrepsError) and error.suggestion:
        # Beside the field there is one too.
        changes = {typed_name(error.field): error.suggestion}
        return [Mend(f"mend_irreps_{error.field}", f"Use {error.suggestion}", changes)]
    if chosen.setting == CUSTOM and chosen.keep and "path" in str(error):
        return [Mend("keep_all", "Keep all outputs", {"keep": ""})]
    if chosen.setting == CUSTOM and field == "axis":
        return [Mend(f"mend_{name}", f"Go along {name}", {"axis": name})
                for name in ("batch", "channels")]  # fmt: skip
    if said.startswith("choose at least") and hasattr(chosen, field):
        words = {"channel_counts": "channels"}.get(field, field)
        return [Mend("mend_usual", f"Use the usual {words}", {field: getattr(Settings(), field)})]
    return []


def typed_name(field: str) -> str:
    """The setting that holds what was typed into a field of irreps."""
    return "keep" if field == "filter_out" else field


def _that_fits(plan: PagePlan, chosen: Settings, batch: int) -> Mend:
    number = rounded_down(batch)
    label = f"Use {plan.batch} {count_text(number)}, which fits"
    return Mend("mend_batch", label, plan.smaller(chosen, number))


def rounded_down(number: int) -> int:
    """The first two digits of a number."""
    unit = 10 ** max(len(str(number)) - 2, 0)
    return number // unit * unit

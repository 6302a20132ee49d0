"""Options: what can be chosen beside the irreps, each declared once.

A field of a dataclass that is made by :func:`option` carries an :class:`Option`: its label, its
help, its choices or bounds. The command line, addresses, controls, the commands that reproduce a
run, the check of what is stored and the question whether two runs did the same work are all read
from there, so that a new option is one line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Literal, TypeVar

T = TypeVar("T")

Group = Literal["problem", "sizes", "numbers", "devices"]
"""Controls that stand together."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """What may be chosen for one field, and what it is called.

    Attributes:
        label: Name of its control.
        help: What it means, for controls and the command line.
        choices: Texts that may be chosen; empty for a number or any text.
        words: What a choice is called for people, where that is not the choice itself.
        low: Smallest number, for a number.
        high: Largest number, for a number; None for an option that is no number.
        empty: What leaving a number out means; None where it must be given.
        group: Controls that it stands with; None for none.
        work: Whether two runs that differ in it did different work.
        gpu_only: Whether it says something about GPUs alone.
        several: Whether a sweep may go along several values of it.
        rule: For any text: raises ``ValueError`` for one that cannot be used.
    """

    label: str
    help: str = ""
    choices: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    low: int = 0
    high: int | None = None
    empty: str | None = None
    group: Group | None = None
    work: bool = True
    gpu_only: bool = False
    several: bool = False
    rule: Callable[[str, str], None] | None = None

    def check(self, name: str, value: object) -> None:
        """Raise ``ValueError`` naming the field, the rule and the value for a bad ``value``."""
        if self.choices:
            if value not in self.choices:
                raise ValueError(f"{name} must be one of {', '.join(self.choices)}, got {value!r}")
        elif self.high is not None:
            if value is None and self.empty is not None:
                return
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or not self.low <= value <= self.high:  # type: ignore[operator]
                raise ValueError(
                    f"{name} must be a whole number from {self.low} to {self.high}, got {value!r}"
                )
        elif not isinstance(value, str):
            raise ValueError(f"{name} must be a text, got {value!r}")
        elif self.rule is not None:
            self.rule(name, value)

    def read(self, name: str, text: str) -> str | int:
        """Value that a text stands for; case does not matter.

        Raises:
            ValueError: Naming the field, the rule and the text.
        """
        value: str | int = text[:40]
        if self.choices:
            value = next((c for c in self.choices if c.lower() == text.lower()), value)
        elif self.high is not None:
            # Not int() alone: it takes "1_0", and refuses thousands of digits in other words.
            value = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else value
        else:
            value = text
        self.check(name, value)
        return value

    def called(self, value: str) -> str:
        """What a choice is called."""
        return self.words.get(value, value)


def option(default: Any, label: str, **about: Any) -> Any:
    """A field with an option.

    Args:
        default: Value where nothing is chosen.
        label: Name of its control.
        **about: Other attributes of :class:`Option`.
    """
    return field(default=default, metadata={"option": Option(label=label, **about)})


def declared(cls: Any) -> dict[str, Option]:
    """Options of a dataclass by the names of their fields."""
    return {each.name: each.metadata["option"] for each in fields(cls) if "option" in each.metadata}


def defaults(cls: Any) -> dict[str, Any]:
    """Value of each option of a dataclass where nothing is chosen."""
    return {each.name: each.default for each in fields(cls) if "option" in each.metadata}


def chosen(made: Any) -> dict[str, Any]:
    """Value of each option of a dataclass's instance."""
    return {name: getattr(made, name) for name in declared(made)}


class Faults:
    """Errors of one question, told together: who mends one should not meet the next.

    Attributes:
        errors: In the order in which they were met.

    Examples:
        >>> faults = Faults()
        >>> faults.tried(lambda: int("x")), faults.tried(lambda: 2)
        (None, 2)
        >>> faults.tell()
        Traceback (most recent call last):
        ValueError: invalid literal for int() with base 10: 'x'
    """

    def __init__(self) -> None:
        self.errors: list[ValueError] = []

    def tried(self, work: Callable[[], T]) -> T | None:
        """What the work returns; None, and its error kept, where it refuses."""
        try:
            return work()
        except ValueError as error:
            self.errors.append(error)
            return None

    def tell(self) -> None:
        """Raise ``ValueError`` if there was an error: the one, or one that says all."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise ValueError("; ".join(dict.fromkeys(map(str, self.errors))))


def check_options(made: Any) -> None:
    """Raise ``ValueError`` for the options of an instance whose values are bad."""
    faults = Faults()
    for name, about in declared(made).items():
        faults.tried(partial(about.check, name, getattr(made, name)))
    faults.tell()


def flag(name: str) -> str:
    """Flag of the command line for an option: ``--per-sample`` for ``per_sample``."""
    return f"--{name.replace('_', '-')}"

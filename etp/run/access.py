"""How a server lets people in: what ``etp.toml`` and ``ETP_ACCESS`` say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from etp.options import Faults
from etp.run.config import limits, table

Mode = Literal["open", "phrase", "oidc"]


@dataclass(frozen=True)
class Access:
    """How this server lets people in.

    Attributes:
        mode: ``open``, ``phrase`` or ``oidc``; None where nobody chose.
        administrators: Addresses that OIDC names, for administrators.
        runners: The same for runners; ``*`` is everyone who is logged in.
    """

    mode: Mode | None = None
    administrators: tuple[str, ...] = ()
    runners: tuple[str, ...] = ("*",)


def access(environment: Mapping[str, str] | None = None) -> Access:
    """What ``etp.toml`` and ``ETP_ACCESS`` say.

    Raises:
        ValueError: If either holds something else; names it.
    """
    given = os.environ if environment is None else environment
    values = table(given).get("access", {})
    known = {"mode", "administrators", "runners"}
    if not isinstance(values, dict) or (set(values) - known):
        raise ValueError(f"etp.toml: access must hold only {', '.join(sorted(known))}: {values!r}")
    mode: Any = given.get("ETP_ACCESS") or values.get("mode")
    if mode is not None and mode not in get_args(Mode):
        raise ValueError(f"access mode must be one of {', '.join(get_args(Mode))}, got {mode!r}")
    if mode == "phrase" and not given.get("ETP_PHRASE"):
        raise ValueError("access mode 'phrase' needs the phrase in ETP_PHRASE, and it is not set")
    lists = {name: _addresses(name, values[name]) for name in known - {"mode"} if name in values}
    return Access(mode, **lists)


def check_configuration() -> None:
    """Refuse a configuration that a server would not read as meant.

    Raises:
        ValueError: Saying all that is wrong with it.
    """
    faults = Faults()
    faults.tried(access)
    faults.tried(limits)
    faults.tell()


def _addresses(name: str, value: object) -> tuple[str, ...]:
    # A text alone would be taken for its letters.
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"access {name} must be a list of addresses, got {value!r}")
    return tuple(value)

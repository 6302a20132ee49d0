"""Who is looking, and what she may do: readers look, runners measure, administrators everything.

A visitor without a name keeps an anonymous label in a signed cookie, set by the server with the
first page (:mod:`etp.ui.server`). How one becomes a runner is said in ``etp.toml``::

    [access]
    mode = "open"            # or "phrase", or "oidc"; without it: open on the loopback interface
    administrators = ["ann@example.org"]
    runners = ["*"]

Pass phrases are in ``ETP_PHRASE`` and ``ETP_ADMIN_PHRASE``, never in the file.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streamlit import config

from etp.results.store import default_path
from etp.run.access import Access as Access
from etp.run.access import access as access

Role = Literal["reader", "runner", "administrator"]
VISITOR, ROLE = "etp_visitor", "etp_role"
"""Names of the cookies."""
COLOURS = (
    "amber", "blue", "bronze", "coral", "cyan", "gold", "green", "indigo", "ivory", "jade",
    "lilac", "olive", "pearl", "plum", "ruby", "silver", "teal", "violet",
)  # fmt: skip
ANIMALS = (
    "badger", "crane", "dolphin", "falcon", "finch", "fox", "gecko", "heron", "ibex", "koala",
    "lemur", "lynx", "marten", "newt", "otter", "panda", "quail", "raven", "seal", "swift",
    "tapir", "vole", "wren", "yak",
)  # fmt: skip


@dataclass(frozen=True)
class Visitor:
    """One person.

    Attributes:
        id: What her jobs are kept under.
        label: How others see her.
        role: What she may do.
    """

    id: str
    label: str
    role: Role

    @property
    def may_run(self) -> bool:
        """Whether she may start a measurement."""
        return self.role != "reader"

    def may_change(self, owner: str) -> bool:
        """Whether she may cancel, extend, publish or remove what an owner asked for."""
        return self.role == "administrator" or (self.may_run and owner == self.id)


def base_path() -> str:
    """What every address of this server begins with behind a proxy: "", or such as "/etp"."""
    given = str(config.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{given}" if given else ""


def label(visitor: str) -> str:
    """A colour and an animal, the same for the same visitor."""
    digest = hashlib.sha256(visitor.encode()).digest()
    return f"{COLOURS[digest[0] % len(COLOURS)]} {ANIMALS[digest[1] % len(ANIMALS)]}"


def signed(value: str) -> str:
    """A value that only this server can have written."""
    mark = hmac.new(_secret(), value.encode(), hashlib.sha256).hexdigest()[:32]
    return f"{value}.{mark}"


def unsigned(text: str | None) -> str | None:
    """The value of :func:`signed`; None for anything else."""
    value, _, _ = (text or "").rpartition(".")
    return value if value and hmac.compare_digest(signed(value), text or "") else None


def new_visitor() -> str:
    """A visitor that nobody can guess."""
    return secrets.token_hex(12)


def _secret() -> bytes:
    """``$ETP_COOKIE_SECRET``, or one kept beside the store, readable by its owner only."""
    if text := os.environ.get("ETP_COOKIE_SECRET"):
        return text.encode()
    path = default_path().with_name("cookie.secret")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return _made_secret(path)


def _made_secret(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        # Another process made it at the same moment.
        return path.read_bytes()
    with os.fdopen(descriptor, "wb") as file:
        body = secrets.token_bytes(32)
        file.write(body)
    return body


def role_of(chosen: Access, *, loopback: bool, cookie: str | None, email: str | None) -> Role:
    """What a visitor may do.

    Args:
        chosen: How this server lets people in.
        loopback: Whether the server listens on the loopback interface only.
        cookie: Her signed role, from a pass phrase.
        email: Who she is, where she is logged in.
    """
    if chosen.mode is None:
        return "administrator" if loopback else "reader"
    if chosen.mode == "open":
        return "runner"
    if chosen.mode == "phrase":
        role = unsigned(cookie)
        return role if role in ("runner", "administrator") else "reader"  # type: ignore[return-value]
    if email is None:
        return "reader"
    if email in chosen.administrators:
        return "administrator"
    return "runner" if {"*", email} & set(chosen.runners) else "reader"


def role_of_phrase(phrase: str, environment: Mapping[str, str] | None = None) -> Role | None:
    """The role that a pass phrase opens; None for a wrong one."""
    given = os.environ if environment is None else environment
    for name, role in (("ETP_ADMIN_PHRASE", "administrator"), ("ETP_PHRASE", "runner")):
        right = given.get(name)
        if right and hmac.compare_digest(right.encode(), phrase.encode()):
            return role  # type: ignore[return-value]
    return None

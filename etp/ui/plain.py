"""Text of others on a page and in a table: it is shown as it is, and does nothing."""

from __future__ import annotations

import re

import pandas as pd

_MARKUP = re.compile(r"[\\`*_\[\]<$~&]|^[-+#>=]")
"""What begins markup, anywhere or at the start of a line."""
_LATE = re.compile(r"(:(?=\S)|(?i:www)(?=\.)|(?=@))")
"""Where an address, an icon or an emoji begins: looked for after escapes are gone."""
_BREAKS = re.compile(r"[ \t\n\r\f\v\x1c-\x1f\x85\u2028\u2029]+")
"""What could begin another line; the narrow space inside a number stays."""
_LIST = re.compile(r"^(\d+)([.)])(?= )")
_JOINER = "\u2060"
"""Has no width, and parts what would be read together."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def plain(text: object) -> str:
    """Markdown that shows a text as it is: no markup, link, picture, formula or icon."""
    line = str(text).encode("utf-8", "replace").decode("utf-8").replace("\0", "")
    line = _BREAKS.sub(" ", line).strip()
    escaped = _LIST.sub(r"\1\\\2", _MARKUP.sub(r"\\\g<0>", line))
    return _LATE.sub(rf"\1{_JOINER}", escaped)


def csv(table: pd.DataFrame) -> bytes:
    """A table as CSV in which no text is a formula where a spreadsheet opens it."""
    return table.map(_no_formula).to_csv(index=False).encode("utf-8", "replace")


def _no_formula(value: object) -> object:
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value

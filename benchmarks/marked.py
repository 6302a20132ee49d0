"""Tables that benchmarks keep on pages of the documentation, between two marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Marks(NamedTuple):
    """Where a table stands.

    Attributes:
        begin: Line before it.
        end: Line behind it.
    """

    begin: str
    end: str

    def rows(self, text: str) -> list[str]:
        """The rows of the table in a page's text, without its head."""
        return text.partition(self.begin)[2].partition(self.end)[0].strip().splitlines()[2:]

    def put(self, page: Path, lines: Sequence[str]) -> None:
        """Write the lines of a table to its place on a page."""
        before, _, rest = page.read_text().partition(self.begin)
        after = rest.partition(self.end)[2]
        page.write_text(before + self.begin + "\n" + "\n".join(lines) + "\n" + self.end + after)

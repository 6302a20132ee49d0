"""The gallery as a folder of files, for any web server that only hands files out."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

from etp.analysis.findings import finding
from etp.report.page import STYLE, page, text
from etp.report.published import picture, question, shown
from etp.results.jobs import Job
from etp.results.store import Store

_OURS = re.compile(r"[0-9a-zA-Z-]+\.(html|png)")
"""Names of the files of a run."""


def write_site(store: Store, folder: Path) -> list[Path]:
    """Write an index and a page and a picture for every published run; return what was written.

    Raises:
        ValueError: If nothing is published, or the folder holds something else.
    """
    runs = store.published()
    mark = folder / ".etp-site"
    if not runs and not mark.exists():
        raise ValueError(
            "the gallery must hold a run, nothing is published yet: open one of your own and "
            "press Publish under it"
        )
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise ValueError(f"site must be an empty folder or an earlier site, got {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    # What was taken out of the gallery since is no longer handed out.
    for name in mark.read_text(encoding="utf-8").split() if mark.exists() else ():
        if _OURS.fullmatch(name):
            (folder / name).unlink(missing_ok=True)
    mark.touch()
    written, cards = [], []
    for job in runs:
        rows = store.rows(job=job.id)
        comparison = shown(rows)
        if comparison is None:
            continue
        title = f"{job.title}: {question(comparison)}"
        written += _files(
            folder, job, {".html": page(rows, title).encode(), ".png": picture(comparison)}
        )
        cards.append(_card(job, title, finding(comparison).heading))
    index = folder / "index.html"
    index.write_text(_index(cards), encoding="utf-8")
    mark.write_text("\n".join(path.name for path in written), encoding="utf-8")
    return [index, *written]


def _files(folder: Path, job: Job, bodies: dict[str, bytes]) -> list[Path]:
    paths = [folder / f"{job.id}{ending}" for ending in bodies]
    for path, body in zip(paths, bodies.values(), strict=True):
        path.write_bytes(body)
    return paths


def _card(job: Job, title: str, sentence: str) -> str:
    day = time.strftime("%Y-%m-%d", time.gmtime(job.published or 0.0))
    return (
        f'<article><a href="{text(job.id)}.html"><h2>{text(title)}</h2>'
        f'<img src="{text(job.id)}.png" alt="" width=500></a>'
        f"<p>{text(sentence)}</p><p class=quiet>{day}</p></article>"
    )


def _index(cards: Sequence[str]) -> str:
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>etp: published runs</title><style>{STYLE}</style></head><body>"
        f"<h1>Equivariant tensor products: published runs</h1>{''.join(cards)}</body></html>"
    )

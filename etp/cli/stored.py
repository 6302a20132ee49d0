"""Commands for the store: what runs there are, in, out, and away."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from etp.cli import values

LISTED = 20
"""What an import refused is listed up to this many."""

if TYPE_CHECKING:
    from etp.results.store import Store


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the commands of this file."""
    taken = commands.add_parser("import", help="add results from files to the store")
    taken.add_argument("files", type=values.path, nargs="+", metavar="FILE")
    store_option(taken)
    taken.set_defaults(run=_import)

    given = commands.add_parser("export", help="write stored results to files")
    kind = given.add_mutually_exclusive_group(required=True)
    kind.add_argument(
        "--out", type=values.path, metavar="FILE.jsonl", help="every row, as JSON Lines"
    )
    kind.add_argument(
        "--html",
        type=values.path,
        metavar="FILE.html",
        help="a run as one page that needs no server",
    )
    kind.add_argument(
        "--site", type=values.path, metavar="FOLDER", help="the gallery as a site of plain files"
    )
    given.add_argument(
        "--run", dest="which", metavar="RUN", help="with --html: which, default the newest"
    )
    store_option(given)
    given.set_defaults(run=_export)

    listed = commands.add_parser("runs", help="list the runs in the store, newest last")
    store_option(listed)
    listed.set_defaults(run=_runs)

    removed = commands.add_parser("delete", help="take a run or an import out of the store")
    removed.add_argument("id", metavar="RUN", help="as `etp runs` lists it")
    removed.add_argument("--undo", action="store_true", help="bring it back")
    store_option(removed)
    removed.set_defaults(run=_delete)


def store_option(parser: argparse.ArgumentParser) -> None:
    """Let a command name the database."""
    parser.add_argument(
        "--store", type=values.path, help="database file (default: $ETP_STORE or your own)"
    )


def _import(options: argparse.Namespace) -> None:
    from etp.results import formats, imports
    from etp.results.store import Store, default_path

    # Everything is read before anything is written; what is good is taken, the rest is listed.
    read, refused = [], []
    for path in options.files:
        try:
            reading = formats.gather(path)
        except formats.FormatError as error:
            refused.append(error)
            continue
        read.append((path, reading.rows))
        refused += reading.refused
    if not read:
        raise refused[0]
    target = Store(options.store or default_path())
    for path, rows in read:
        runs = imports.adopted(rows, path.name)
        added = target.add_imports(runs)
        print(f"{path}: {added} of {len(rows)} rows added as {', '.join(r.job for r in runs)}")
    if refused:
        raise ValueError("; ".join(["not imported", *map(str, refused[:LISTED])]) + _more(refused))


def _more(refused: Sequence[Exception]) -> str:
    """How many were not listed."""
    return f"; and {len(refused) - LISTED} more" if len(refused) > LISTED else ""


def _export(options: argparse.Namespace) -> None:
    from etp.results.store import Store, default_path

    if options.which is not None and options.html is None:
        raise ValueError("--run goes with --html: --out and --site write every run")
    store = Store(options.store or default_path())
    if options.html is not None:
        options.html.write_bytes(_page(store, options.which))
        print(options.html)
    elif options.site is not None:
        from etp.report import write_site

        print(*write_site(store, options.site), sep="\n")
    else:
        count = store.export_jsonl(options.out)
        if options.out.is_file():
            print(f"{options.out}: {count} rows written")


def _page(store: Store, wanted: str | None) -> bytes:
    """A run as a page: the one that was named, or the newest that was timed."""
    from etp import report

    for job in reversed(store.jobs()):
        if wanted is None or job.id == wanted:
            rows = store.rows(job=job.id)
            comparison = report.shown(rows)
            if comparison is not None:
                return report.page(rows, f"{job.title}: {report.question(comparison)}").encode()
    if wanted is None:
        raise ValueError("the store must hold a run that was timed, it has none yet")
    raise ValueError(f"--run must be a timed run as `etp runs` lists it, got {wanted!r}")


def _runs(options: argparse.Namespace) -> None:
    from etp.results.store import Store, default_path

    store = Store(options.store or default_path())
    counts = store.counts()
    for job in store.jobs():
        when = datetime.fromtimestamp(job.created, UTC).strftime("%Y-%m-%d %H:%M")
        rows = f"{counts[job.id]} rows" if job.id in counts else "deleted, or empty"
        print(f"{job.id}  {when}  {job.state:11s}  {rows:>18s}  {job.title}")
    for row_id, reason in store.refused().items():
        print(f"row {row_id} of an earlier version was set aside: {reason}")


def _delete(options: argparse.Namespace) -> None:
    from etp.results.store import Store, default_path

    store = Store(options.store or default_path())
    if options.undo:
        print(f"{options.id}: {store.bring_back(options.id)} rows are back")
    else:
        count = store.remove(options.id)
        print(f"{options.id}: {count} rows deleted; `etp delete {options.id} --undo` undoes it")

"""Commands for whoever runs a server: certificates, backups, retention, and what is wrong here."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from etp.cli import values


def add(commands: argparse._SubParsersAction[Any], store_option: Any) -> None:
    """Add the commands of this file."""
    certificates = commands.add_parser(
        "certificates", help="make TLS certificates for workers elsewhere"
    )
    certificates.add_argument("--out", type=values.path, required=True, metavar="FOLDER")
    certificates.add_argument(
        "--days", type=values.whole(1, 36500), default=365, help="how long they are valid"
    )
    certificates.set_defaults(run=_certificates)

    backup = commands.add_parser("backup", help="copy the store to a new file, while it is in use")
    backup.add_argument("--out", type=values.path, required=True, metavar="FILE")
    store_option(backup)
    backup.set_defaults(run=_backup)

    prune = commands.add_parser("prune", help="keep so many rows, the published and the newest")
    prune.add_argument("--rows", type=values.whole(1), required=True, metavar="N")
    store_option(prune)
    prune.set_defaults(run=_prune)

    doctor = commands.add_parser("doctor", help="is this machine ready, and what would mend it?")
    doctor.set_defaults(run=_doctor)


def _certificates(options: argparse.Namespace) -> None:
    from etp.run.certificates import make

    for path in make(options.out, days=options.days):
        print(path)


def _backup(options: argparse.Namespace) -> None:
    from etp.results.store import Store, default_path

    Store(options.store or default_path()).backup(options.out)
    print(options.out)


def _prune(options: argparse.Namespace) -> None:
    from etp.results.store import Store, default_path

    gone = Store(options.store or default_path()).prune(options.rows)
    print(f"{gone} rows removed")


def _doctor(options: argparse.Namespace) -> None:
    from etp.run.doctor import checks

    bad = 0
    for check in checks():
        bad += not check.good
        print(f"{'ok  ' if check.good else 'MEND'}  {check.what}: {check.state}")
        if not check.good:
            print(f"      {check.mend}")
    if bad:
        print(f"{bad} to mend", file=sys.stderr)
        raise SystemExit(1)

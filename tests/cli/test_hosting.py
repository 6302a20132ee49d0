from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
from statistics import median

import pytest

from etp.cli.main import main
from etp.results.store import Store
from etp.run import doctor
from tests import make
from tests.make import run_of


def test_certificates_are_made_once_and_keys_are_for_their_owner(tmp_path, capsys):
    folder = tmp_path / "certificates"
    assert main(["certificates", "--out", str(folder)]) == 0
    assert len(capsys.readouterr().out.split()) == 7
    for role in ("scheduler", "worker", "client"):
        key = folder / f"{role}-key.pem"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(folder / f"{role}-cert.pem", key)
    assert main(["certificates", "--out", str(folder)]) == 2
    assert "already" in capsys.readouterr().err


def test_a_backup_is_a_whole_store_and_never_overwrites(tmp_path, capsys):
    store = Store(tmp_path / "etp.sqlite")
    store.add_rows(run_of({"a": 1e-3, "b": 2e-3}))
    out = tmp_path / "copy.sqlite"
    assert main(["backup", "--store", str(store.path), "--out", str(out)]) == 0
    assert Store(out).rows(samples=True) == store.rows(samples=True)
    assert main(["backup", "--store", str(store.path), "--out", str(out)]) == 2


def test_pruning_keeps_the_newest_and_what_was_published(tmp_path):
    store = Store(tmp_path / "etp.sqlite")
    for name in ("kept", "old", "new"):
        store.add_job(name, name, [{"n": 0}])
        store.update_job(name, state="done")
        rows = [row.with_(job=name) for row in run_of({"a": 1e-3, "b": 2e-3})]
        store.add_rows(rows)
    store.update_job("kept", published=1.0)
    assert main(["prune", "--store", str(store.path), "--rows", "4"]) == 0
    assert [row["job"] for row in store.rows()] == ["kept", "kept", "new", "new"]
    with sqlite3.connect(store.path) as db:
        assert db.execute("SELECT count(*) FROM sample").fetchone() == (4,)
    db.close()
    assert [job.id for job in store.published()] == ["kept"]
    assert store.job("old") is None
    before = store.revision()
    # Nothing else may go: the newest run stays whole, and nobody looks again for nothing.
    assert store.prune(1) == 0
    assert store.revision() == before


def test_samples_are_packed_and_older_ones_are_still_read(tmp_path):
    store = Store(tmp_path / "etp.sqlite")
    lists = [0.1 + 1e-6 * n for n in range(2000)]
    row = make.row(result={"median_s": median(lists), "samples_s": lists})
    store.add_rows([row])
    with sqlite3.connect(store.path) as db:
        (size,) = db.execute("SELECT length(body) FROM sample").fetchone()
        assert size < len(json.dumps(lists)) / 2
        assert store.samples(row["id"])["samples_s"] == lists  # type: ignore[index]
        db.execute("UPDATE sample SET body = ?", [json.dumps({"samples_s": [1.0]})])
    db.close()
    assert store.samples(row["id"]) == {"samples_s": [1.0]}


def test_the_doctor_names_what_is_wrong_and_the_mend(tmp_path, monkeypatch):
    monkeypatch.setenv("ETP_STORE", str(tmp_path / "etp.sqlite"))
    (tmp_path / "etp.sqlite").write_bytes(b"no database at all" * 100)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    broken = {check.what: check for check in doctor.checks() if not check.good}
    assert {"store", "C++ compiler"} <= set(broken)
    assert all(check.mend for check in broken.values())


def told() -> dict[str, doctor.MachineCheck]:
    return {check.what: check for check in doctor.checks()}


def test_the_doctor_tries_the_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("ETP_STORE", str(tmp_path / "etp.sqlite"))
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'no such header' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    check = told()["C++ compiler"]
    assert (check.good, check.state) == (False, f"{broken} does not compile: no such header")
    # The mend that is named mends it.
    assert "set CXX to another" in check.mend
    if (other := shutil.which("g++") or shutil.which("clang++")) is not None:
        monkeypatch.setenv("CXX", other)
        assert told()["C++ compiler"].good


def test_the_doctor_names_a_store_that_cannot_be_written_and_the_mend_works(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ETP_STORE", str(tmp_path / "file" / "etp.sqlite"))
    check = told()["store"]
    assert not check.good
    assert "set ETP_STORE" in check.mend
    monkeypatch.setenv("ETP_STORE", str(tmp_path / "other.sqlite"))
    assert told()["store"].good


def test_the_doctor_names_a_port_in_use_and_the_mend_works(tmp_path, monkeypatch):
    monkeypatch.setenv("ETP_STORE", str(tmp_path / "etp.sqlite"))
    with socket.socket() as taken, socket.socket() as free:
        for listener in (taken, free):
            listener.bind(("127.0.0.1", 0))
        taken.listen()
        busy, other = taken.getsockname()[1], free.getsockname()[1]
        monkeypatch.setenv("PORT", str(busy))
        check = told()[f"port {busy}"]
        assert (check.good, check.state) == (False, "in use")
        assert "PORT=" in check.mend
        monkeypatch.setenv("PORT", str(other))
        assert told()[f"port {other}"].good


@pytest.mark.parametrize(
    ("variable", "value", "state", "mend"),
    [
        ("ETP_ACCESS", "opn", "access mode must be one of open, phrase, oidc", "hosting.md"),
        ("ETP_ACCESS", "phrase", "ETP_PHRASE", "hosting.md"),
        ("ETP_CONFIG", "gone.toml", "ETP_CONFIG must name a file", "hosting.md"),
        ("ETP_SCHEDULER", "tcp://10.0.0.1:8786", "must be tls://", "etp certificates"),
        ("PORT", "many", "PORT=many", "65535"),
        ("PORT", "9" * 5000, "PORT=999", "65535"),
    ],
)
def test_the_doctor_names_a_setting_that_no_server_takes(
    variable, value, state, mend, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ETP_STORE", str(tmp_path / "etp.sqlite"))
    assert all(c.good for c in doctor.checks() if c.what in ("access", "limits", "scheduler"))
    monkeypatch.setenv(variable, value)
    wrong = [check for check in doctor.checks() if state in check.state]
    assert wrong
    assert not any(check.good for check in wrong)
    assert all(mend in check.mend for check in wrong)


def test_the_doctor_runs_from_the_command_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "etp", "doctor"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode in (0, 1), done.stderr
    assert "clock" in done.stdout


@pytest.mark.parametrize("words", [["prune", "--rows", "0"], ["certificates", "--days", "0"]])
def test_bad_numbers_are_refused(words, tmp_path, capsys):
    out = ["--out", str(tmp_path / "x")] if words[0] == "certificates" else []
    with pytest.raises(SystemExit) as stop:
        main([*words, *out])
    assert stop.value.code == 2
    assert "must be a whole number" in capsys.readouterr().err

"""The steps of a Dockerfile without Docker: the same commands in a fresh folder.

The image's folders are folders below one root, and what needs the network or another user database
is left out and said: apt-get, useradd, and pip where the requirements are met already. Everything
runs in an environment that holds only what the Dockerfile sets, with no home and without the
rights to write what it does not own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

PLACES = ("/app", "/data", "/opt/etp", "/tmp")
SETPRIV = shutil.which("setpriv") or "setpriv"
"""Takes from root the right to write everywhere."""
LEFT_OUT = re.compile(r"apt-get |rm -rf /var/lib/apt|useradd |install -d ")


def instructions(text: str) -> list[tuple[str, str]]:
    """Name and argument of each instruction, continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined)]


def met(requirements: Path) -> bool:
    """Whether this environment has what the file asks for."""
    for line in requirements.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        asked = Requirement(line)
        try:
            there = version(asked.name)
        except PackageNotFoundError:
            return False
        if not asked.specifier.contains(there, prereleases=True):
            return False
    return True


@dataclass
class Image:
    """What the steps made, below ``root``.

    Attributes:
        environment: What the Dockerfile set, with the folders below the root.
        left_out: Commands that were not run.
        command: What a container starts, from CMD.
        health: What HEALTHCHECK runs.
        user: Who the container runs as.
    """

    root: Path
    context: Path
    environment: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    workdir: str = "/"
    user: str = "root"

    def build(self, text: str, compiler: Path) -> None:
        """Carry out every instruction.

        Args:
            text: Of the Dockerfile.
            compiler: Of C++, which the image has in its path.
        """
        for place in PLACES:
            self.at(place).mkdir(parents=True, exist_ok=True)
        path = f"{compiler.parent}:{Path(sys.executable).parent}:/usr/bin:/bin"
        self.environment = {"PATH": path, "HOME": "/nonexistent", "LANG": "C.UTF-8"}
        self.environment["CXX"] = compiler.name
        for name, argument in instructions(text):
            if name in ("FROM", "VOLUME", "EXPOSE"):
                continue
            getattr(self, f"_{name.lower()}")(argument)

    def at(self, path: str) -> Path:
        """Where a path of the image is."""
        return self.root / path.lstrip("/")

    def mapped(self, text: str) -> str:
        """A command with the image's folders below the root."""
        return re.sub(rf"(?<![\w/.])({'|'.join(PLACES)})(?=[/\s\"'=:]|$)", rf"{self.root}\1", text)

    def protect(self) -> None:
        """Take the right to write away from all but the data and the scratch folder."""
        for place in ("/app", "/opt/etp"):
            for path in [self.at(place), *self.at(place).rglob("*")]:
                path.chmod(path.stat().st_mode & ~0o222)

    def popen(self, command: list[str], **added: str) -> subprocess.Popen[str]:
        """Start something as a container of this image would."""
        drop = [SETPRIV, "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
        return subprocess.Popen(
            [*drop, *map(self.mapped, command)],
            cwd=self.at(self.workdir), env=self.environment | added, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _arg(self, argument: str) -> None:
        name, _, value = argument.partition("=")
        self.environment[name] = value

    def _env(self, argument: str) -> None:
        pairs = (pair.partition("=") for pair in shlex.split(argument))
        self.environment |= {name: self.mapped(value) for name, _, value in pairs}

    def _workdir(self, argument: str) -> None:
        self.workdir = argument

    def _user(self, argument: str) -> None:
        self.user = argument

    def _cmd(self, argument: str) -> None:
        self.command = json.loads(argument)

    def _healthcheck(self, argument: str) -> None:
        self.health = json.loads(argument.partition("CMD ")[2])

    def _copy(self, argument: str) -> None:
        source, target = argument.split()
        to = self.at(self.workdir) / target
        if source != ".":
            shutil.copy(self.context / source, to)
            return
        lines = (self.context / ".dockerignore").read_text().split()
        ignored = [line.removeprefix("**/") for line in lines]

        def without(_: str, names: list[str]) -> set[str]:
            return {name for name in names if any(fnmatch(name, each) for each in ignored)}

        shutil.copytree(self.context, to, ignore=without, dirs_exist_ok=True)

    def _run(self, argument: str) -> None:
        for command in map(str.strip, argument.split("&&")):
            skipped = LEFT_OUT.match(command) is not None
            if command.startswith("pip install"):
                assert met(self.at("/app/requirements.txt")), "the environment lacks requirements"
                skipped = True
            if skipped:
                self.left_out.append(command)
                continue
            subprocess.run(
                ["bash", "-euc", self.mapped(command)],
                cwd=self.at(self.workdir), env=self.environment, check=True,
                capture_output=True, text=True, timeout=300,
            )  # fmt: skip

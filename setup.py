"""What a wheel holds beside the package: the dashboard, whose pages lie at the top of the tree."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
DASHBOARD = ("app.py", "pages/*.py", ".streamlit/config.toml")


class WithDashboard(build_py):
    """Copies the dashboard to ``etp/dashboard``, where ``etp app`` looks for it."""

    def run(self) -> None:
        """Build the package, then add the files of the dashboard to it."""
        super().run()
        if self.editable_mode:
            return  # what is edited lies in the tree, where it is found as well
        for pattern in DASHBOARD:
            for source in sorted(HERE.glob(pattern)):
                target = Path(self.build_lib, "etp", "dashboard", source.relative_to(HERE))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)


setup(cmdclass={"build_py": WithDashboard})

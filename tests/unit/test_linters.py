"""The linters are part of the suite: nobody has to remember them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from support import host

ROOT = Path(__file__).resolve().parents[2]


def lint(tool: str, *arguments: str) -> None:
    if importlib.util.find_spec(tool) is None:
        message = f"{tool} is not installed for {sys.executable}"
        if host.STRICT:
            pytest.fail(message)
        pytest.skip(message)
    done = subprocess.run(
        [sys.executable, "-m", tool, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.fail(f"{tool}:\n{done.stdout}{done.stderr}", pytrace=False)


def test_ruff_check() -> None:
    lint("ruff", "check", "--quiet", "podpy", "tests")


def test_ruff_format() -> None:
    lint("ruff", "format", "--check", "--quiet", "--diff", "podpy", "tests")


def test_mypy_strict() -> None:
    lint("mypy", "--no-error-summary", "podpy")


def test_shell_scripts_parse() -> None:
    """``bash -n``: a typing error shows before a machine is half set up."""
    scripts = [*ROOT.glob("packaging/*.sh"), *ROOT.glob("tests/**/*.sh"), ROOT / ".ci" / "run"]
    assert scripts
    for script in scripts:
        done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

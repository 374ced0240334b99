"""``podpy.pyz`` and the installed command: one launcher, nothing read that others may write."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
POISON = "raise SystemExit('poisoned')\n"


@pytest.fixture(name="archive", scope="module")
def _archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive under test: ``$PODPY`` in full runs, else one that is built now."""
    given = os.environ.get("PODPY", "")
    if given.endswith(".pyz"):
        return Path(given)
    path = tmp_path_factory.mktemp("zipapp") / "podpy.pyz"
    subprocess.run(["bash", CHECKOUT / "packaging/zipapp.sh", path], check=True)
    return path


def run(command: object, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(command), *words], capture_output=True, text=True, check=False, timeout=60,
        **options,  # type: ignore[call-overload]
    )  # fmt: skip


def bootstrap(archive: Path) -> str:
    """The header's Python code up to where podpy is imported."""
    header = archive.read_bytes().split(b"from podpy.__main__ import main", 1)[0]
    return header.decode("latin-1").split("-I -S -c '\n", 1)[1]


def poisoned(directory: Path) -> dict[str, str]:
    """A directory and an environment full of code that must not run."""
    for name in ("sitecustomize", "usercustomize", "os", "podpy", "typer", "marshal"):
        (directory / f"{name}.py").write_text(POISON)
    return {
        "PATH": f"/usr/bin:/bin:{directory}",
        "PYTHONPATH": str(directory),
        "PYTHONSTARTUP": str(directory / "os.py"),
        "PYTHONHOME": str(directory),
        "HOME": str(directory),
        "ENV": str(directory / "os.py"),
        "BASH_ENV": str(directory / "os.py"),
    }


@pytest.mark.parametrize("words", [["version"], ["help", "run"]])
def test_no_code_comes_from_the_directory_or_the_environment(
    archive: Path, tmp_path: Path, words: list[str]
) -> None:
    done = run(archive, *words, cwd=tmp_path, env=poisoned(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_it_runs_by_link_by_name_and_through_sh(archive: Path, tmp_path: Path) -> None:
    link = tmp_path / "podpy"
    link.symlink_to(archive)
    assert run(link, "--version").returncode == 0
    assert run("podpy", "--version", env={"PATH": f"{tmp_path}:/usr/bin:/bin"}).returncode == 0
    assert run("sh", "podpy", "--version", cwd=tmp_path).returncode == 0


@pytest.mark.needs("strace")
def test_it_holds_sources_and_no_modules_of_runpy(archive: Path) -> None:
    names = zipfile.ZipFile(archive).namelist()
    assert "podpy/__main__.py" in names
    assert "typer/__init__.py" in names
    assert not [name for name in names if name.startswith(("rich/", "pytest/"))]
    traced = run("strace", "-f", "-e", "trace=openat", str(archive), "version")
    opened = [line for line in traced.stderr.splitlines() if "ENOENT" not in line]
    assert not [line for line in opened if "runpy" in line or "/site-packages" in line]


def test_sources_run_where_no_code_is_compiled_for_the_interpreter(archive: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.argv[:] = ['podpy', *sys.argv[2:]]\n"
        "from podpy.__main__ import main\nmain()"
    )
    done = run(sys.executable, "-I", "-S", "-c", code, str(archive), "help", "version")
    assert (done.returncode, done.stderr) == (0, "")


def test_modules_can_be_had_as_code_and_as_source(archive: Path) -> None:
    """What the lean supervisor and tracebacks ask of the importer."""
    start = bootstrap(archive)
    probe = (
        "import podpy.errors as m; loader = m.__spec__.loader; "
        "name = m.__name__\n"
        "print(loader.get_code(name).co_name, 'PodpyError' in loader.get_source(name),"
        " loader.is_package('podpy'), m.__file__)"
    )
    done = run("/usr/bin/python3", "-I", "-S", "-c", start + probe, str(archive))
    assert done.stdout.split() == ["<module>", "True", "True", f"{archive}/podpy/errors.py"]


def test_replacing_the_archive_does_not_mix_versions(archive: Path, tmp_path: Path) -> None:
    """A process that runs goes on with the code it started with."""
    copy = tmp_path / "podpy.pyz"
    shutil.copy(archive, copy)
    start = bootstrap(copy)
    probe = (
        "import podpy.errors, os; os.rename(PATH, PATH + '.old'); open(PATH, 'w').close()\n"
        "import podpy.files; print('same')"
    )
    done = run("/usr/bin/python3", "-I", "-S", "-c", start + probe, str(copy))
    assert (done.stdout, done.stderr) == ("same\n", "")


def test_an_installed_podpy_starts_the_same_way(tmp_path: Path) -> None:
    """As pip lays it out: the launcher in ``bin``, the package in ``lib/pythonX.Y``."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = tmp_path / "lib" / version / "site-packages"
    (tmp_path / "bin").mkdir()
    site.mkdir(parents=True)
    shutil.copytree(CHECKOUT / "podpy", site / "podpy")
    shutil.copy(CHECKOUT / "packaging/podpy", tmp_path / "bin/podpy")
    (tmp_path / "bin" / version).symlink_to(sys.executable)
    (tmp_path / "elsewhere").symlink_to("bin/podpy")
    poison = tmp_path / "poison"
    poison.mkdir()
    for command in (tmp_path / "bin/podpy", tmp_path / "elsewhere"):
        done = run(command, "version", cwd=poison, env=poisoned(poison))
        assert (done.returncode, done.stderr) == (0, "")
    done = run("sh", "podpy", "--root=/x", "version", cwd=tmp_path / "bin")
    assert done.returncode == 0

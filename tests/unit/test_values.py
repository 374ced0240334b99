"""The small languages of option values."""

from __future__ import annotations

from pathlib import Path

import pytest

from podpy.engine import environment, values
from podpy.engine.options import ContainerOptions
from podpy.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1024", 1024),
        ("64m", 64 << 20),
        ("64MB", 64 << 20),
        ("64MiB", 64 << 20),
        ("1.5g", 3 << 29),
        ("10b", 10),
        ("2 k", 2048),
    ],
)
def test_size(text: str, expected: int) -> None:
    assert values.size(text, "--shm-size") == expected


@pytest.mark.parametrize("text", ["", "m", "10x", "-1", "1e3", "1.2.3", "ten", "64mm"])
def test_a_wrong_size_names_the_option(text: str) -> None:
    with pytest.raises(UsageError, match="--shm-size"):
        values.size(text, "--shm-size")


@pytest.mark.parametrize(
    ("text", "expected"), [("10", 10.0), ("90s", 90.0), ("1h30m", 5400.0), ("250ms", 0.25)]
)
def test_duration(text: str, expected: float) -> None:
    assert values.duration(text, "--time") == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "h", "10parsecs", "1h30", "--"])
def test_a_wrong_duration(text: str) -> None:
    with pytest.raises(UsageError):
        values.duration(text, "--time")


def test_moments_are_dates_epochs_and_spans() -> None:
    assert values.moment("1700000000", "--since", 5.0) == 1700000000
    assert values.moment("2023-11-14T22:13:20Z", "--since", 5.0) == 1700000000
    assert values.moment("10m", "--since", 1000.0) == 400


def test_lines_leave_comments_out(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("# no\n\nA=1\n  B=2 # kept\n")
    assert list(values.lines(str(path), "--env-file")) == ["A=1", "B=2 # kept"]


def test_filters_group_by_key_and_refuse_unknown_ones() -> None:
    assert values.filters(("a=1", "a=2", "b=3"), "ab") == {"a": ["1", "2"], "b": ["3"]}
    with pytest.raises(UsageError, match="invalid filter 'c'"):
        values.filters(("c=1",), "ab")
    with pytest.raises(UsageError, match="key=value"):
        values.filters(("a",), "ab")


# --- the environment -----------------------------------------------------------

HOST = {"FROM_HOST": "h", "http_proxy": "http://p", "NO_PROXY": "n", "FROM_X": "x"}


def environ(options: ContainerOptions, image: tuple[str, ...] = ()) -> dict[str, str]:
    made = environment.build(
        options, host=HOST, configured=("C=conf",), image=image, hostname="box", proxies=True
    )
    return dict(entry.split("=", 1) for entry in made)


def test_later_sources_override_earlier_ones(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("A=file\nB=file\n")
    options = ContainerOptions(image="i", env=("B=option",), env_file=(str(path),))
    found = environ(options, ("A=image", "C=image", "PATH=/image"))
    assert (found["A"], found["B"], found["C"], found["PATH"]) == (
        "file",
        "option",
        "image",
        "/image",
    )
    assert found["HOSTNAME"] == "box"
    assert found["container"] == "podpy"


def test_a_bare_name_takes_the_host_value_or_removes() -> None:
    found = environ(ContainerOptions(image="i", env=("FROM_HOST", "MISSING")), ("MISSING=image",))
    assert found["FROM_HOST"] == "h"
    assert "MISSING" not in found


def test_a_star_takes_every_variable_with_that_beginning() -> None:
    found = environ(ContainerOptions(image="i", env=("FROM_*",)))
    assert (found["FROM_HOST"], found["FROM_X"]) == ("h", "x")


def test_nothing_of_the_host_comes_unasked_but_proxies() -> None:
    found = environ(ContainerOptions(image="i"))
    assert "FROM_HOST" not in found
    assert (found["http_proxy"], found["NO_PROXY"]) == ("http://p", "n")
    assert "http_proxy" not in environ(ContainerOptions(image="i", http_proxy=False))


def test_env_host_brings_everything_and_unsetenv_takes_defaults_away() -> None:
    assert environ(ContainerOptions(image="i", env_host=True))["FROM_X"] == "x"
    found = environ(ContainerOptions(image="i", unsetenv=("C", "PATH"), env=("D=1",)))
    assert "C" not in found
    assert "PATH" not in found
    found = environ(ContainerOptions(image="i", unsetenv_all=True, env=("D=1",), http_proxy=False))
    assert found == {"D": "1"}


def test_term_is_set_for_a_terminal_only() -> None:
    assert environ(ContainerOptions(image="i", tty=True))["TERM"] == "xterm"
    assert "TERM" not in environ(ContainerOptions(image="i"))


@pytest.mark.parametrize("text", ["=x", "A\0=x"])
def test_wrong_variables(text: str) -> None:
    with pytest.raises(UsageError, match="--env"):
        environ(ContainerOptions(image="i", env=(text,)))


def test_an_environment_file_with_a_space_in_a_name(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("A B=1\n")
    with pytest.raises(UsageError, match="white space"):
        environ(ContainerOptions(image="i", env_file=(str(path),)))

"""``--chmod``: octal modes and the words of chmod(1)."""

from __future__ import annotations

import pytest

from podpy.build import filemodes
from podpy.build.diagnostics import Problem


@pytest.mark.parametrize(
    ("text", "before", "file", "directory"),
    [
        ("755", 0o600, 0o755, 0o755),
        ("0644", 0o4755, 0o644, 0o644),
        ("4755", 0o644, 0o4755, 0o4755),
        ("+x", 0o644, 0o755, 0o755),
        ("a+x", 0o640, 0o751, 0o751),
        ("u=rwX,go=rX", 0o600, 0o644, 0o755),
        ("u=rwX,go=rX", 0o710, 0o755, 0o755),
        ("g=u", 0o740, 0o770, 0o770),
        ("o=g-w", 0o760, 0o764, 0o764),
        ("go-rwx", 0o777, 0o700, 0o700),
        ("=r", 0o777, 0o444, 0o444),
        ("u=", 0o755, 0o055, 0o055),
        ("u+s,g+s,o+t", 0o755, 0o7755, 0o7755),
        ("+t", 0o777, 0o1777, 0o1777),
        ("u-s", 0o4755, 0o755, 0o755),
        ("ug+r-x", 0o311, 0o641, 0o641),
        ("a=rX", 0o000, 0o444, 0o555),
    ],
)
def test_modes(text: str, before: int, file: int, directory: int) -> None:
    apply = filemodes.parse(text)
    assert oct(apply(before, False)) == oct(file)
    assert oct(apply(before, True)) == oct(directory)


@pytest.mark.parametrize(
    "text", ["8", "77777", "x", "u", "u+q", "+rwx,", "z+x", "u=ug", "-1", "٧٥٥", "0o755", "+x "]
)
def test_refused(text: str) -> None:
    with pytest.raises(Problem):
        filemodes.parse(text)

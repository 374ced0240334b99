"""``--user`` against a container's passwd and group files."""

from __future__ import annotations

import os

import pytest

from podpy.errors import ImageError, UsageError
from podpy.runtime import users

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/usr/sbin:
app:x:1000:1001::/home/app:/bin/sh
1234:x:77:78::/digits:/bin/sh
nohome:x:5:5
minus:x:-1:-1::/:/bin/sh
allbits:x:4294967295:0::/:/bin/sh
words:x:one:two::/:/bin/sh
plus:x:+7:7::/:/bin/sh
empty:x:::/:/bin/sh
+nis:x:9:9::/:
#comment:x:9:9::/:
"""
GROUP = b"""root:x:0:
audio:x:29:app,daemon
video:x:44:app
named:x:500:
7:x:600:
broken:x:-1:app
endless:x:4294967295:app
short
"""


def who(user: str, *extra: str) -> tuple[int, int, tuple[int, ...], str]:
    found = users.find(user, extra, PASSWD, GROUP)
    return found.uid, found.gid, found.groups, found.home


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", (0, 0, (0,), "/root")),
        ("root", (0, 0, (0,), "/root")),
        ("0", (0, 0, (0,), "/root")),
        ("1", (1, 1, (1, 29), "/usr/sbin")),
        ("01", (1, 1, (1, 29), "/usr/sbin")),
        ("1:", (1, 1, (1, 29), "/usr/sbin")),
        ("app", (1000, 1001, (1001, 29, 44), "/home/app")),
        ("1000", (1000, 1001, (1001, 29, 44), "/home/app")),
        ("app:video", (1000, 44, (44,), "/home/app")),
        ("name", None),
        ("nohome", (5, 5, (5,), "/")),
        ("app:5", (1000, 5, (5,), "/home/app")),
        ("1000:named", (1000, 500, (500,), "/home/app")),
        ("4321", (4321, 0, (0,), "/")),
        ("4321:named", (4321, 500, (500,), "/")),
        ("1234", (1234, 0, (0,), "/")),  # digits are an id, never a name
        ("77", (77, 78, (78,), "/digits")),
        ("app:7", (1000, 7, (7,), "/home/app")),
        ("4294967294", (4294967294, 0, (0,), "/")),
    ],
)
def test_who(user: str, expected: tuple[object, ...] | None) -> None:
    if expected is None:
        with pytest.raises(UsageError, match="no matching entries in passwd file"):
            who(user)
    else:
        assert who(user) == expected


@pytest.mark.parametrize(
    "user",
    [
        ":", ":1", ":root", "1:2:3", "::", "+1", "-1", "1_0", " 1", "1 ", "0x1", "1.0", "\u0661",
        "4294967295", "4294967296", "9" * 4000, "minus", "allbits", "words", "plus", "empty",
        "+nis", "#comment", "comment", "app:nobody", "app:4294967295", "app:-1", "app:broken",
        "app:endless", "app:+1", "root\n", "ro\0ot", "short", "x:",
    ],
)  # fmt: skip
def test_who_is_refused(user: str) -> None:
    with pytest.raises(UsageError):
        who(user)


def test_added_groups_come_after_the_accounts_own() -> None:
    assert who("app", "named", "9", "29")[2] == (1001, 29, 44, 500, 9)
    with pytest.raises(UsageError, match="unable to find group nowhere"):
        who("app", "nowhere")


def test_kept_groups_stand_alone() -> None:
    kept = users.find("app", ("keep-groups",), PASSWD, GROUP)
    assert kept.keep_groups
    with pytest.raises(UsageError, match="cannot be combined"):
        who("app", "keep-groups", "named")


def resolve(tmp_path: os.PathLike[str], user: str = "app") -> users.Credentials:
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        return users.resolve(fd, user)
    finally:
        os.close(fd)


def test_databases_are_read_inside_the_root(tmp_path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "nix").write_bytes(PASSWD)
    (tmp_path / "etc/passwd").symlink_to("/nix")
    (tmp_path / "etc/group").write_bytes(GROUP)
    assert resolve(tmp_path).groups == (1001, 29, 44)


def test_a_link_out_of_the_root_finds_nobody(tmp_path) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "passwd").write_bytes(PASSWD)
    (tmp_path / "root/etc/passwd").symlink_to("../../passwd")
    with pytest.raises(UsageError, match="unable to find user app"):
        resolve(tmp_path / "root")


def test_no_databases_at_all(tmp_path) -> None:
    assert resolve(tmp_path, "") == users.Credentials(uid=0, gid=0, groups=(0,), home="/")


@pytest.mark.parametrize("kind", ["fifo", "directory", "loop", "huge"])
def test_a_database_that_is_no_small_file_is_refused_at_once(tmp_path, kind: str) -> None:
    (tmp_path / "etc").mkdir()
    passwd = tmp_path / "etc/passwd"
    if kind == "fifo":
        os.mkfifo(passwd)
    elif kind == "directory":
        passwd.mkdir()
    elif kind == "loop":
        passwd.symlink_to("passwd")
    else:
        passwd.touch()
        os.truncate(passwd, 5 << 30)
    with pytest.raises(ImageError, match="/etc/passwd"):
        resolve(tmp_path)

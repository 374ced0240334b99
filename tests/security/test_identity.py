"""Who a container's processes are: users, groups, capabilities."""

from __future__ import annotations

import pytest

from support import images
from support.podpy import Podpy

NONE = ("--network", "none")
DEFAULT_CAPS = "00000000800405fb"
STATUS = ("grep", "-E", "^(Cap|NoNewPrivs|Seccomp:)", "/proc/self/status")

# (what is asked for, "uid gid groups" of the process)
ACCEPTED = [
    ("", "0 0 0"),
    ("root", "0 0 0"),
    ("alice", "1000 1000 1000 10 29"),
    ("1000", "1000 1000 1000 10 29"),
    ("01000", "1000 1000 1000 10 29"),
    ("1000:", "1000 1000 1000 10 29"),
    ("alice:staff", "1000 50 50"),
    ("alice:7", "1000 7 7"),
    ("1:2", "1 2 2"),
    ("4321", "4321 0 0"),
    ("42", "42 0 0"),  # an account is called 42: digits are an id, never a name
]
REFUSED = [":1", ":", "+1", "-1", "1000:2:3", "4294967295", "4294967296", "nobodyhere", "alice:x"]
WHO = ("sh", "-c", "echo $(id -u) $(id -g) $(id -G)")


def status(text: str) -> dict[str, str]:
    return dict(line.split(":\t") for line in text.splitlines())


def test_cve_2026_30892_the_user_is_parsed_strictly(podpy: Podpy, users_image: str) -> None:
    podpy.run_detached("--name", "c", *NONE, users_image, "sleep", "1000")
    for user, expected in ACCEPTED:
        option = ("-u", user) if user else ()
        assert podpy("exec", *option, "c", *WHO).text == expected, user
    for user in REFUSED:
        done = podpy.fails("exec", "-u", user, "c", "id", code=125)
        assert "uid=" not in done.stdout, user


@pytest.mark.parametrize("user", ["alice:staff", "4321", "1000"])
def test_run_and_exec_agree_about_the_user(podpy: Podpy, users_image: str, user: str) -> None:
    expected = dict(ACCEPTED)[user]
    assert podpy("run", "--rm", *NONE, "-u", user, users_image, *WHO).text == expected


def test_an_unparsable_user_is_no_container(podpy: Podpy, users_image: str) -> None:
    for user in REFUSED[:3]:
        done = podpy.fails("run", "--rm", *NONE, "-u", user, users_image, "id")
        assert "uid=" not in done.stdout


def test_cve_2022_2989_supplementary_groups_are_the_images(podpy: Podpy, users_image: str) -> None:
    """A group that is denied a file stays denied, with and without a chosen group."""
    podpy.run_detached("--name", "c", *NONE, users_image, "sleep", "1000")
    deny = "echo secret >/tmp/f; chown 0:29 /tmp/f; chmod 604 /tmp/f"
    podpy("exec", "c", "sh", "-c", deny)
    podpy("exec", "-u", "alice", "c", "cat", "/tmp/f", code=1)
    assert podpy("exec", "-u", "4321", "c", "cat", "/tmp/f").text == "secret"
    added = podpy("run", "--rm", *NONE, "--group-add", "staff", "--group-add", "77", "-u", "alice",
                  users_image, *WHO)  # fmt: skip
    assert added.text == "1000 1000 1000 10 29 50 77"


@pytest.mark.parametrize("user", ["root", "alice", "4321:5"])
def test_cve_2022_29162_no_inheritable_or_ambient_capabilities(
    podpy: Podpy, users_image: str, user: str
) -> None:
    podpy.run_detached("--name", "c", *NONE, users_image, "sleep", "1000")
    by_exec = status(podpy("exec", "-u", user, "c", *STATUS).text)
    by_run = status(podpy("run", "--rm", *NONE, "-u", user, users_image, *STATUS).text)
    granted = DEFAULT_CAPS if user == "root" else "0" * 16
    for found in (by_run, by_exec):
        assert found["CapInh"] == found["CapAmb"] == "0" * 16
        assert found["CapEff"] == found["CapPrm"] == granted
        assert found["CapBnd"] == DEFAULT_CAPS
        assert found["Seccomp"] == "2"


def test_capabilities_come_from_the_record_not_from_the_first_process(
    podpy: Podpy, busybox: str
) -> None:
    """pid 1 may have given capabilities up, or be another program by now."""
    podpy.run_detached("--name", "c", *NONE, "--cap-drop", "ALL", "--cap-add", "chown",
                       "--security-opt", "no-new-privileges", busybox, "sleep", "1000")  # fmt: skip
    found = status(podpy("exec", "c", *STATUS).text)
    assert found["CapBnd"] == found["CapEff"] == "0" * 15 + "1"
    assert found["NoNewPrivs"] == "1"
    everything = status(podpy("exec", "--privileged", "c", *STATUS).text)
    assert int(everything["CapEff"], 16) & 1 << 21, "no CAP_SYS_ADMIN"
    assert everything["CapInh"] == everything["CapAmb"] == "0" * 16


def test_setuid_programs_gain_nothing_with_no_new_privileges(podpy: Podpy) -> None:
    passwd = images.USERS_PASSWD.replace("root:x:", "root::")  # su asks for no password
    layer = images.busybox_layer(passwd, images.USERS_GROUP)
    layer.file("bin/busybox", images.busybox_binary(), 0o4755)
    image = podpy.load_layers("localhost/setuid:latest", layer)
    run = ("run", "--rm", *NONE, "-u", "alice")
    look = ("su", "-c", "id -u")
    assert podpy(*run, image, *look).text == "0"
    confined = podpy(*run, "--security-opt", "no-new-privileges", image, *look, code=None)
    assert confined.code != 0
    assert confined.text != "0"


def test_a_profile_of_the_users_own_is_obeyed(podpy: Podpy, busybox: str) -> None:
    profile = podpy.directory / "profile.json"
    profile.write_text(
        '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":'
        '[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}'
    )
    option = ("--security-opt", f"seccomp={profile}")
    podpy.run_detached("--name", "c", *NONE, *option, busybox, "sleep", "1000")
    profile.unlink()  # the container keeps what it was started with
    done = podpy("exec", "c", "mkdir", "/x", code=1)
    assert "No space left on device" in done.stderr
    free = podpy("run", "--rm", *NONE, "--security-opt", "seccomp=unconfined", busybox, *STATUS)
    assert status(free.text)["Seccomp"] == "0"
    podpy.fails("run", "--rm", *NONE, "--security-opt", "seccomp=/nowhere", busybox, "true")

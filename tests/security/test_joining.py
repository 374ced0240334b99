"""What a container can do to the podpy processes that enter it, and they to it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import images
from support.podpy import CHECKOUT, Podpy

NONE = ("--network", "none")

#: Looks at every process of podpy's, again and again; says whom it saw and what it could open.
#: An attempt counts only if the process was podpy's before it and is so still: ``execve``
#: makes it the container's own.
SPY = r"""
did() { read -r now 2>/dev/null <$p/comm && [ "$now" = "$comm" ] && echo "$1 $comm $2"; }
while [ ! -e /stop ]; do
  for p in /proc/[0-9]*; do
    read -r comm 2>/dev/null <$p/comm || continue
    case $comm in py*|podpy*) ;; *) continue;; esac
    echo "saw $comm"
    for f in exe cwd root fd/0 fd/1 fd/2 fd/3 fd/4 fd/5 fd/6 fd/7; do
      t=$(readlink $p/$f 2>/dev/null) && [ -n "$t" ] && did link "$f $t"
    done
    for f in environ maps auxv; do
      [ -n "$(head -c 1 $p/$f 2>/dev/null | od -An)" ] && did read $f
    done
    (exec 9>>$p/exe) 2>/dev/null && did write exe
    # Files of a process that has ended can be opened and are empty: it must be alive after.
    (exec 9>>$p/mem) 2>/dev/null && [ -n "$(tr -d '\0' <$p/cmdline)" ] && did write mem
  done
done
"""


def digest(directory: Path) -> str:
    """One digest of every Python file below a directory."""
    found = hashlib.sha256()
    for path in sorted(directory.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def slow_image(podpy: Podpy) -> str:
    """The user database is long: whoever enters is busy with it for a while."""
    passwd = images.PASSWD + "".join(f"u{n}:x:{n}:{n}::/:/bin/sh\n" for n in range(2000, 90000))
    layer = images.busybox_layer(passwd, images.GROUP)
    return podpy.load_layers("localhost/slow:latest", layer)


@pytest.mark.parametrize(
    "options", [(), ("--cap-add", "SYS_PTRACE"), ("--privileged",), ("--privileged", "--pid=host")],
    ids=["default", "ptrace", "privileged", "host pids"],
)  # fmt: skip
def test_cve_2016_9962_a_joining_process_cannot_be_traced(
    podpy: Podpy, options: tuple[str, ...]
) -> None:
    """Attaching, reading memory and descriptors all ask the kernel the same question."""
    image = slow_image(podpy)
    spy = SPY if "--pid=host" not in options else SPY.replace("/proc/[0-9]*", "$(/pids)")
    pids = "#!/bin/sh\nls -d /proc/[0-9]* | sort -t/ -k3 -n | tail -n 40\n"
    start = f"printf '%s' '{pids}' >/pids; chmod 755 /pids; touch /ready; {spy}"
    podpy.run_detached("--name", "c", *NONE, *options, image, "sh", "-c", start)
    for _ in range(4):
        assert podpy("exec", "c", "echo", "joined").text == "joined"
    podpy("exec", "c", "touch", "/stop")
    podpy("wait", "c")
    seen = podpy("logs", "c").lines
    assert any(line.startswith("saw ") for line in seen), "the spy was never quick enough"
    wrong = [line for line in seen if not line.startswith("saw ")]
    assert not wrong, wrong[:10]


def test_cve_2019_5736_podpy_cannot_be_overwritten(podpy: Podpy) -> None:
    """The interpreter and the program belong to the user, so container root could write them."""
    image = slow_image(podpy)
    own = podpy.directory / "home" / "python3"
    shutil.copyfile(os.path.realpath(sys.executable), own)
    own.chmod(0o755)
    podpy.command = (str(own), "-m", "podpy")
    podpy.env |= {"PYTHONHOME": sys.base_prefix, "PYTHONPATH": str(CHECKOUT)}
    before = hashlib.sha256(own.read_bytes()).hexdigest(), digest(CHECKOUT / "podpy")
    option = ("--cap-add", "SYS_PTRACE")
    podpy.run_detached("--name", "c", *NONE, *option, image, "sh", "-c", SPY)
    for _ in range(4):
        podpy("exec", "c", "true")
    look = "ls -l /proc/self/fd /proc/self/exe; cat /proc/self/maps"
    leaked = podpy("exec", "c", "sh", "-c", look)
    podpy("exec", "c", "touch", "/stop")
    podpy("wait", "c")
    assert "python" not in leaked.stdout
    assert str(podpy.store) not in leaked.stdout
    assert not [line for line in podpy("logs", "c").lines if not line.startswith("saw ")]
    assert (hashlib.sha256(own.read_bytes()).hexdigest(), digest(CHECKOUT / "podpy")) == before


# --- descriptors and the working directory


@pytest.fixture
def leaked(podpy: Podpy) -> list[int]:
    """Descriptors 3 to 20 of a host directory, as a careless caller leaves them open."""
    secret = podpy.directory / "secret"
    secret.mkdir()
    (secret / "key").write_text("host secret")
    held = [os.open(secret, os.O_RDONLY | os.O_DIRECTORY) for _ in range(40)]
    wanted = [fd for fd in held if fd <= 40]
    yield wanted
    for fd in held:
        os.close(fd)


def test_cve_2024_21626_a_descriptor_as_working_directory(
    podpy: Podpy, busybox: str, leaked: list[int]
) -> None:
    podpy.run_detached("--name", "c", *NONE, busybox, "sleep", "1000", pass_fds=leaked)
    look = ("sh", "-c", "cat key ../key ./secret/key; ls; pwd -P")
    for number in range(3, 21):
        for link in (f"/proc/self/fd/{number}", f"/proc/1/fd/{number}"):
            by_exec = podpy("exec", "-w", link, "c", *look, code=None, pass_fds=leaked)
            assert "host secret" not in by_exec.stdout, link
            assert by_exec.code in (1, 2, 125, 126, 127), by_exec
        by_run = podpy("run", "--rm", *NONE, "-w", f"/proc/self/fd/{number}", busybox, *look,
                       code=None, pass_fds=leaked)  # fmt: skip
        assert "host secret" not in by_run.stdout
        assert str(podpy.directory) not in by_run.stdout


def test_a_working_directory_is_not_made_on_the_host(
    podpy: Podpy, busybox: str, leaked: list[int]
) -> None:
    """A missing one is made: inside the root, not below a descriptor that leads out."""
    for number in range(3, 21):
        podpy.fails("run", "--rm", *NONE, "-w", f"/proc/self/fd/{number}/made/here", busybox, "pwd",
                    pass_fds=leaked)  # fmt: skip
    assert [path.name for path in (podpy.directory / "secret").iterdir()] == ["key"]
    made = podpy("run", "--rm", *NONE, "-w", "/made/here", busybox, "pwd", pass_fds=leaked)
    assert made.text == "/made/here"


def test_callers_descriptors_do_not_enter(podpy: Podpy, busybox: str, leaked: list[int]) -> None:
    look = ("sh", "-c", "ls /proc/self/fd | grep -v '^[012]$'")
    podpy.run_detached("--name", "c", *NONE, busybox, "sleep", "1000", pass_fds=leaked)
    for how in (("run", "--rm", *NONE, busybox), ("exec", "c"), ("exec", "-i", "c")):
        # One more than the streams: the directory that ls itself reads.
        assert len(podpy(*how, *look, pass_fds=leaked).lines) <= 1
    assert podpy("exec", "c", "sh", "-c", "ls /proc/1/fd", pass_fds=leaked).lines == ["0", "1", "2"]


def test_cve_2017_5226_the_users_terminal_is_out_of_reach(podpy: Podpy, busybox: str) -> None:
    """A process that shares the terminal could type commands into it (TIOCSTI)."""
    podpy.run_detached("--name", "c", *NONE, busybox, "sleep", "1000")
    for how in (("exec", "-i", "c"), ("run", "--rm", "-i", *NONE, busybox)):
        shown = podpy.terminal(*how, "sh", "-c", "(: </dev/tty) || echo none of mine; echo end")
        shown.expect("none of mine.*end")


def test_a_session_keyring_of_its_own(podpy: Podpy, busybox: str) -> None:
    podpy.run_detached("--name", "c", *NONE, "--security-opt", "unmask=/proc/keys", busybox,
                       "sleep", "1000")  # fmt: skip
    for how in (("run", "--rm", *NONE, "--security-opt", "unmask=/proc/keys", busybox),
                ("exec", "c")):  # fmt: skip
        keys = podpy(*how, "cat", "/proc/keys").text
        assert "_podpy" in keys
        assert "_ses" not in keys


def test_signal_dispositions_are_the_default(podpy: Podpy, busybox: str) -> None:
    """Python ignores SIGPIPE and SIGXFSZ, and P blocks what it passes on."""
    podpy.run_detached("--name", "c", *NONE, busybox, "sleep", "1000")
    look = ("grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status")
    for how in (("run", "--rm", *NONE, busybox), ("exec", "c"), ("exec", "-i", "c")):
        assert podpy(*how, *look).lines == ["SigBlk:\t" + "0" * 16, "SigIgn:\t" + "0" * 16]


# --- the caller's own files --------------------------------------------------------


def test_a_file_given_as_stream_cannot_be_opened_anew(podpy: Podpy, busybox: str) -> None:
    """``/proc/self/fd/N`` of a file opens it with the rights of its owner, who is root inside."""
    podpy.run_detached("--name", "box", "--network", "none", busybox, "sleep", "1000")
    source, log = podpy.directory / "source", podpy.directory / "log"
    source.write_text("precious\n")
    log.write_text("before\n")
    script = "cat; echo evil > /proc/self/fd/0; : > /proc/self/fd/1; echo after"
    with source.open() as reading, log.open("a") as writing:
        done = subprocess.run(
            podpy.argv("exec", "-i", "box", "sh", "-c", script),
            stdin=reading, stdout=writing, stderr=subprocess.PIPE, env=podpy.env, check=False,
        )  # fmt: skip
    assert done.returncode == 0
    assert source.read_text() == "precious\n"
    assert log.read_text() == "before\nprecious\nafter\n"


def test_output_to_a_file_is_whole_and_not_waited_for_longer(podpy: Podpy, busybox: str) -> None:
    podpy.run_detached("--name", "box", "--network", "none", busybox, "sleep", "1000")
    target = podpy.directory / "out"
    with target.open("wb") as writing:
        subprocess.run(
            podpy.argv("exec", "box", "sh", "-c", "sleep 600 & seq 50000"),
            stdout=writing, env=podpy.env, check=True, timeout=60,
        )  # fmt: skip
    assert target.read_bytes().splitlines()[-1] == b"50000"
    assert target.read_bytes().count(b"\n") == 50000

"""A container that nests directories or cgroups by the thousand can still be seen and removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podpy import files
from support.podpy import Podpy
from support.polling import eventually

NONE = ("--network", "none")


def nest(levels: int) -> str:
    return f"i=0; while [ $i -lt {levels} ]; do mkdir d && cd d || break; i=$((i+1)); done"


def test_directories_nested_by_the_thousand(podpy: Podpy, busybox: str) -> None:
    podpy("run", "--name", "deep", *NONE, busybox, "sh", "-c", f"cd /tmp; {nest(1400)}")
    podpy("ps", "-a", "-s")
    podpy("rm", "deep")
    assert podpy.staging() == []
    podpy("run", "--rm", *NONE, busybox, "sh", "-c", f"cd /tmp; {nest(1400)}")
    eventually(lambda: podpy.staging() == [])


@pytest.mark.needs("cgroup")
def test_cgroups_nested_by_the_thousand(podpy: Podpy, busybox: str) -> None:
    """A privileged container may make cgroups below its own."""
    script = f"cd /sys/fs/cgroup; {nest(1300)}; touch /done; exec sleep 1000"
    made = podpy.run_detached("--privileged", *NONE, busybox, "sh", "-c", script)
    eventually(lambda: podpy("exec", made, "test", "-e", "/done", code=None).code == 0)
    podpy("stop", "-t", "0", made)
    podpy("rm", made)
    killed = podpy.run_detached("--privileged", *NONE, busybox, "sh", "-c", script)
    eventually(lambda: podpy("exec", killed, "test", "-e", "/done", code=None).code == 0)
    podpy("rm", "-f", "-t", "0", killed)


def test_what_lies_too_deep_is_removed_file_by_file(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    here = os.open(tree, os.O_RDONLY)
    for level in range(1200):
        os.mkdir("d", dir_fd=here)
        os.mkdir("e", dir_fd=here)
        os.close(os.open(f"f{level}", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        here, outer = os.open("d", os.O_RDONLY, dir_fd=here), here
        os.close(outer)
    os.close(here)
    assert files.remove_tree(str(tree)) == []
    assert list(tmp_path.iterdir()) == []

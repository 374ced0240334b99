"""Two starts on one new volume, one of which fails or is killed: nobody's data is lost."""

from __future__ import annotations

import json
import os
import subprocess
import time

from podpy.kernel import process
from podpy.records import to_dict
from support.podpy import Podpy

NONE = ("--network", "none")


def test_data_of_a_container_survives_another_start_that_fails(podpy: Podpy, busybox: str) -> None:
    """What a failed start has copied is undone: so nobody else may write there before."""
    podpy("volume", "create", "shared")
    filler = subprocess.Popen(["sleep", "1000"])
    try:
        marker = podpy.store / "volumes" / "shared" / "filling"
        marker.write_text(json.dumps(to_dict(process.identity(filler.pid))))
        writer = podpy.start(
            "run", "--rm", *NONE, "-v", "shared:/data", busybox, "touch", "/data/mine"
        )
        time.sleep(0.5)
        assert os.listdir(marker.parent / "_data") == []
    finally:
        filler.kill()
        filler.wait()
    writer.wait()
    shown = podpy("run", "--rm", *NONE, "-v", "shared:/data", busybox, "ls", "/data")
    assert shown.text == "mine"
    assert not marker.exists()


def test_one_volume_at_two_places(podpy: Podpy, busybox: str) -> None:
    podpy("run", "--rm", *NONE, "-v", "v:/etc", "-v", "v:/data", busybox, "ls", "/data/passwd")

"""Many builds by buildah, one after the other, within one user namespace.

Runs under ``buildah unshare`` (see :mod:`support.buildah`) and stands alone:
``peer_builds.py PLAN``, where PLAN is JSON:

    {"storage": [buildah's and podman's storage options], "bases": [archives],
     "directory": where results go,
     "batches": {name: [[case, context, options, environment], …]}}

Writes ``NAME.tar``, all images of a batch as one docker-archive, and then
``NAME.json``, ``{case: [exit code, output]}``.
"""

import ctypes
import json
import os
import subprocess
import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, SIGKILL = 1, 36, 9
# Its cache takes images that differ in their configuration alone for one another.
FIXED = [
    "--layers",
    "--no-cache",
    "--isolation",
    "chroot",
    "--network",
    "host",
    "--format",
    "docker",
]
TIMEOUT = 120


def main(file):
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with open(file) as stream:
        plan = json.load(stream)
    podman = [
        "podman",
        *plan["storage"],
        "--cgroup-manager",
        "cgroupfs",
        "--events-backend",
        "none",
    ]
    for archive in plan["bases"]:
        run([*podman, "load", "-q", "-i", archive])
    for name, cases in plan["batches"].items():
        results = {case: build(plan["storage"], case, *rest) for case, *rest in cases}
        built = ["localhost/" + case for case, (code, _) in results.items() if code == 0]
        target = os.path.join(plan["directory"], name)
        if built:
            code, output = run([*podman, "save", "-q", "-m", "-o", target + ".tar", *built])
            if code:
                results = dict.fromkeys(results, (code, output))
        with open(target + ".partial", "w") as stream:
            json.dump(results, stream)
        os.rename(target + ".partial", target + ".json")
        end_adopted()


def end_adopted():
    """What a RUN leaves in the background outlives it here: no process namespace ends it."""
    with open(f"/proc/self/task/{os.getpid()}/children") as stream:
        for pid in map(int, stream.read().split()):
            os.kill(pid, SIGKILL)
            os.waitpid(pid, 0)


def build(storage, case, context, options, environment):
    command = ["buildah", *storage, "bud", "-q", *FIXED, "-t", "localhost/" + case, *options]
    return run([*command, context], {**os.environ, **environment})


def run(argv, env=None):
    try:
        done = subprocess.run(
            argv, env=env, timeout=TIMEOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 125, f"not within {TIMEOUT} s"
    return done.returncode, done.stdout


main(sys.argv[1])

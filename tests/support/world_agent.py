"""Runs programs in the world for a user who cannot enter it.

``world_agent.py serve DIRECTORY`` is started once, in the world's network namespace and as
the user; ``world_agent.py run DIRECTORY PROGRAM ARGUMENTS…``, in the user's own, asks it to
run a program there, on the asker's standard streams, and ends as that does.  A program ends
with its asker, and all end with the agent.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading

LONGEST = 150_000

running: set[int] = set()


def serve(directory: str) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"{directory}/socket")
    listener.listen(64)
    signal.signal(signal.SIGTERM, end)
    names = os.path.join(os.path.dirname(os.path.abspath(__file__)), "world_dns.py")
    argv = [sys.executable, "-IS", names, directory]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
    running.add(server.pid)
    assert server.stdout is not None
    server.stdout.readline()  # it answers
    print("ready", os.getpid(), flush=True)
    while True:
        asker, _ = listener.accept()
        threading.Thread(target=run_for, args=(asker,), daemon=True).start()


def end(_number: int, _frame: object) -> None:
    for pid in running.copy():
        kill_group(pid)
    os._exit(0)


def kill_group(leader: int) -> None:
    """End a program that is not yet waited for, and what it started."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run_for(asker: socket.socket) -> None:
    """Run what one asker wants, to its end or to the asker's."""
    with asker:
        message, streams, _, _ = socket.recv_fds(asker, LONGEST, 3)
        if not message:
            return
        try:
            child = subprocess.Popen(
                json.loads(message), stdin=streams[0], stdout=streams[1], stderr=streams[2],
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            asker.send(f"{error}".encode())
            return
        finally:
            for fd in streams:
                os.close(fd)
        running.add(child.pid)
        pidfd = os.pidfd_open(child.pid)
        ready, _, _ = select.select([pidfd, asker], [], [])
        running.discard(child.pid)
        kill_group(child.pid)
        code = child.wait()
        os.close(pidfd)
        if pidfd in ready:
            asker.send(b"%d" % code)


def run(directory: str, argv: list[str]) -> int:
    """The exit code of a program that ran there (128 + n by signal n)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as agent:
        agent.connect(f"{directory}/socket")
        socket.send_fds(agent, [json.dumps(argv).encode()], [0, 1, 2])
        answer = agent.recv(LONGEST).decode()
    try:
        code = int(answer)
    except ValueError:
        print(f"world: {answer or 'the agent is gone'}", file=sys.stderr)
        return 127
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(run(sys.argv[2], sys.argv[3:]))

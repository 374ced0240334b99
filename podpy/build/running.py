"""RUN: one command in a container made of the stage's root file system.

The container is that of ``podpy run``, without a supervisor (:mod:`podpy.runtime.step`):
its rights and limits come from a record that the engine makes of the build's
options and of the configuration.  What was put in place for the command alone
(hosts, resolv.conf, mounts and their targets) is in no layer.
"""

from __future__ import annotations

import os

from podpy import files, records
from podpy.build import cache, run_plan, single
from podpy.build.inline import InlineFile
from podpy.build.mounts import Mounts, content, described, reads
from podpy.build.run_settings import NETWORK_HOST
from podpy.errors import BuildError, StepFailed, suppress
from podpy.kernel import process, userns
from podpy.model import DEFAULT_PATH
from podpy.runtime import step, stubs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from podpy.build.bench import Bench
    from podpy.build.cdi import Edits
    from podpy.build.inside import Upper
    from podpy.build.instructions import Run
    from podpy.build.model import RunWork, StepResult
    from podpy.build.run_settings import Settings

#: Where a heredoc with an interpreter of its own lies while it runs.
_DOCUMENTS = "/dev/pipes"
#: What a command cannot see of the container's record: it differs from build to build, or is
#: about room and not about results.
_UNSEEN = ("id", "name", "created", "driver", "create_command", "cgroup_parent", "log")


# --- what a step may see: its key --------------------------------------------


def quick_key(work: RunWork, settings: Settings, bench: Bench) -> str:
    """The key that needs no file read: empty where a mount shows a directory of the host."""
    chains = []
    for mount in work.instruction.mounts:
        if reads(mount):
            source = work.sources[mount.from_]
            if source.tree is None or source.tree.directory:
                return ""
            chains.append(cache.chain(source.tree.layers))
    return bench.key("RUN", _said(work, settings), *chains)


def _content_key(work: RunWork, settings: Settings, bench: Bench) -> str:
    """The key by the contents of what the mounts show."""
    digests = [content(each, work, bench) for each in work.instruction.mounts if reads(each)]
    return bench.key("RUN by content", _said(work, settings), *digests)


def _said(work: RunWork, settings: Settings) -> str:
    """All that the command can see but files, proxies, and the values of secrets."""
    container = records.to_dict(settings.template)
    for name in _UNSEEN:
        del container[name]
    instruction = work.instruction
    return files.dumps(
        {
            "argv": list(command(work)),
            "documents": [each.body for each in instruction.command.heredocs],
            "env": sorted({**work.arguments, **work.env}.items()),
            "user": work.user,
            "cwd": work.working_dir,
            "mounts": [described(mount, work) for mount in instruction.mounts],
            "devices": [each.name for each in instruction.devices],
            "network": instruction.network or "default",
            "isolation": settings.isolation,
            "stdin": settings.stdin,
            "container": container,
        }
    )


# --- the command -------------------------------------------------------------


def command(work: RunWork) -> tuple[str, ...]:
    """The words to execute."""
    it = work.instruction.command
    if it.exec_form:
        return it.words
    if document := _program(work.instruction):
        return (document.target,)
    return (*work.shell, it.script)


def _program(instruction: Run) -> InlineFile | None:
    """A heredoc that names its interpreter is a program."""
    it = instruction.command
    if it.exec_form or not it.is_document or not it.script.startswith("#!"):
        return None
    target = f"{_DOCUMENTS}/{os.path.basename(it.heredocs[0].name)}"
    return InlineFile(target=target, data=os.fsencode(it.script), mode=0o555, program=True)


def environment(work: RunWork, variables: Mapping[str, str]) -> tuple[str, ...]:
    """``NAME=value`` texts: arguments, the stage's own variables, proxies where unset, mounts'."""
    found = {"PATH": DEFAULT_PATH, **work.proxies, **work.arguments, **work.env, **variables}
    return tuple(f"{name}={value}" for name, value in found.items())


def check(instruction: Run, settings: Settings) -> None:
    """Refuse what a rootless build cannot give, and what the user has not allowed."""
    if instruction.security not in ("", "sandbox"):
        raise BuildError(
            f"RUN --security={instruction.security}: a rootless build has no privileges to give",
            hint="leave it out; single capabilities can be added: podpy build --cap-add",
        )
    if instruction.network == "none" and settings.isolation == "chroot":
        raise BuildError(
            "RUN --network=none: with --isolation chroot a command has the host's network",
            hint="leave --isolation out",
        )
    has_hosts_network = settings.isolation == "chroot" or NETWORK_HOST in settings.allowed
    if instruction.network == "host" and not has_hosts_network:
        raise BuildError(
            "RUN --network=host: a Dockerfile gets the host's network only with your leave",
            hint=f"podpy build --allow {NETWORK_HOST}",
        )
    for device in instruction.devices:
        if not settings.allowed & {device.name, "*"}:
            raise BuildError(
                f"RUN --device={device.name}: a Dockerfile gets no device without your leave",
                hint=f"podpy build --allow device={device.name}",
            )


# --- carrying it out ---------------------------------------------------------


def perform(work: RunWork, settings: Settings, bench: Bench) -> StepResult:
    """Run the command, unless its result is known; the new layer."""
    quick = quick_key(work, settings, bench)
    keys = [quick] if quick else []
    if (found := bench.lookup(*keys)) is not None:
        return found
    if any(reads(mount) for mount in work.instruction.mounts):
        keys.append(_content_key(work, settings, bench))
        if (found := bench.lookup(keys[-1])) is not None:
            bench.remember(keys, found)
            return found
    upper = bench.upper()
    _execute(work, settings, bench, upper)
    result = bench.commit(upper)
    bench.remember(keys, result)
    return result


def _execute(work: RunWork, settings: Settings, bench: Bench, upper: Upper) -> None:
    edits = _devices(work.instruction)
    with Mounts(work, settings, bench) as mounts:
        if document := _program(work.instruction):
            mounts.add_file(document)
        env = environment(work, mounts.variables)
        made = run_plan.make(
            work, settings, bench, upper, mounts, argv=command(work), env=env, edits=edits
        )
        with open(os.devnull, "rb") as nothing:
            ended = step.run(
                step.Step(
                    id=os.path.basename(made.directory),
                    plan=made.plan,
                    streams=(0 if settings.stdin else nothing.fileno(), work.out, work.err),
                    network=settings.driver(made.record, made.directory),
                    cgroup_parent=made.record.cgroup_parent,
                    cgroup_manager=settings.cgroup_manager,
                    limits=settings.limits,
                    recorder=single.recorder(bench.store, upper, made.plan),
                )
            )
    _reap(ended.leaving)
    if ended.code:
        raise failure(command(work), ended.code)
    _clear(upper, ended.stubs)


def _devices(instruction: Run) -> Edits | None:
    """What the instruction's devices come to; those that are not there may be optional."""
    if not instruction.devices:
        return None
    from podpy.build import cdi

    found = cdi.Edits()
    for device in instruction.devices:
        edits = cdi.find(device.name)
        if edits is not None:
            found = found.joined(edits)
        elif device.required:
            raise cdi.missing(device.name)
    return found


def failure(words: Sequence[str], code: int) -> StepFailed:
    """docker's words for a command that failed."""
    text = " ".join(words)
    return StepFailed(
        f'process "{text}" did not complete successfully: exit code: {code}', code=code
    )


def _reap(pids: Sequence[int]) -> None:
    """Helpers that are gone already; the others are reaped by whoever gets them."""
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _clear(upper: Upper, told: str) -> None:
    """Take the mount targets out of the changes; as the container's root where they are its."""
    if not told:
        return
    layered = upper.driver != "vfs"
    try:
        stubs.clear(upper.changes, told, layered=layered, ids=userns.root_map())
    except PermissionError:

        def clear() -> int:
            stubs.clear(upper.changes, told, layered=layered)
            return 0

        if process.wait(userns.fork_mapped(clear, mount_ns=False)):
            raise BuildError("RUN: the targets of its mounts cannot be removed again") from None

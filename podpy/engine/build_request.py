"""What the texts of ``build``'s options mean: each is parsed here, strictly, once.

Every function takes the texts of one option and answers records or plain
values; what an option cannot mean is a :class:`UsageError` that names it.
Nothing here reads the context, the store or the network.
"""

from __future__ import annotations

import os

from podpy.build import dockerfile
from podpy.build.diagnostics import DockerfileError
from podpy.build.instructions import Run
from podpy.build.secrets import Secret
from podpy.build.ssh import Agent
from podpy.engine import platforms, values
from podpy.errors import UsageError
from podpy.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from podpy.build.dockerfile import Dockerfile, Stage
    from podpy.build.instructions import RunMount
    from podpy.engine.build_options import BuildOptions
    from podpy.model import Platform

FORMATS = ("oci", "docker")
POLICIES = ("always", "missing", "never", "newer")
ISOLATIONS = ("oci", "chroot")
CALLS = ("build", "check", "outline", "targets", "subrequests.describe")
_LEVELS = ("manifest", "index", "manifest-descriptor", "index-descriptor")
_EPOCH = "SOURCE_DATE_EPOCH"
_IMAGE_SCHEMES = ("docker-image", "container-image", "docker")


@record
class Annotation:
    """A key and its value, and which manifest or descriptor (of which platform) gets it."""

    key: str
    value: str
    level: str = "manifest"
    platform: Platform | None = None


@record
class Limits:
    """Control group limits of RUN; None: not given.  ``swap`` is memory plus swap, -1 no limit."""

    memory: int | None = None
    swap: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""

    @property
    def any(self) -> bool:
        """Some limit was asked for."""
        return self != Limits()


# --- the little languages ----------------------------------------------------


def fields(text: str) -> list[str]:
    """The parts of a comma-separated value, quoted as in CSV where a part holds a comma."""
    if '"' not in text:
        return text.split(",")
    import csv

    return next(csv.reader([text]), [])


def attributes(text: str, option: str, known: Iterable[str] = ()) -> dict[str, str]:
    """``key=value,…`` as a map with lower-case keys; keys that are not ``known`` are an error."""
    allowed = tuple(known)
    found: dict[str, str] = {}
    for part in fields(text):
        name, equals, value = part.partition("=")
        key = name.strip().lower()
        if not equals or not key:
            raise UsageError(f"{option} {text!r}: {part!r} is not key=value")
        if allowed and key not in allowed:
            raise UsageError(
                f"{option} {text!r}: unknown key {key!r}", hint=f"known: {', '.join(allowed)}"
            )
        found[key] = value
    return found


def listed(texts: Iterable[str]) -> tuple[str, ...]:
    """The words of options that may be repeated and hold several words between commas."""
    return tuple(word for text in texts for word in text.split(",") if word)


# --- arguments, labels, annotations ------------------------------------------


def arguments(options: BuildOptions, env: Mapping[str, str]) -> dict[str, str]:
    """Build arguments: those of files first, ``--build-arg`` wins.

    A name without ``=`` takes its value from the environment, and is left out when
    it has none there.  SOURCE_DATE_EPOCH of the environment is an argument unasked,
    as docker has it.
    """
    found: dict[str, str] = {}
    if _EPOCH in env:
        found[_EPOCH] = env[_EPOCH]
    for path in options.build_arg_file:
        for line in values.lines(path, "--build-arg-file"):
            found.update(_argument(line, "--build-arg-file", env))
    for text in options.build_arg:
        found.update(_argument(text, "--build-arg", env))
    return found


def _argument(text: str, option: str, env: Mapping[str, str]) -> dict[str, str]:
    name, equals, value = text.partition("=")
    if not name:
        raise UsageError(f"{option} {text!r}: is not NAME=VALUE")
    if equals:
        return {name: value}
    return {name: env[name]} if name in env else {}


def environment(texts: Iterable[str], env: Mapping[str, str]) -> dict[str, str]:
    """``--env``: variables of the image; a bare name takes the caller's value, if there is one."""
    found: dict[str, str] = {}
    for text in texts:
        found.update(_argument(text, "--env", env))
    return found


def labels(texts: Iterable[str], option: str = "--label") -> dict[str, str]:
    return values.pairs(texts, option, bare=True)


def annotated(texts: Iterable[str]) -> tuple[Annotation, ...]:
    """``[LEVEL[PLATFORM],…:]KEY[=VALUE]``; without a level it is the manifest's."""
    return tuple(made for text in texts for made in _annotation(text))


def _annotation(text: str) -> list[Annotation]:
    name, _, value = text.partition("=")
    prefix, colon, key = name.partition(":")
    places = prefix.split(",")
    if not colon or not all(place.partition("[")[0] in _LEVELS for place in places):
        places, key = ["manifest"], name
    if not key:
        raise UsageError(f"--annotation {text!r}: is not KEY=VALUE")
    made = []
    for place in places:
        level, bracket, platform = place.partition("[")
        if bracket and (not platform.endswith("]") or level.startswith("index")):
            raise UsageError(
                f"--annotation {text!r}: {place!r} is not LEVEL[PLATFORM]",
                hint="manifest[linux/amd64]:key=value; an index has no platform",
            )
        wanted = platforms.wanted(platform[:-1]) if bracket else None
        made.append(Annotation(key=key, value=value, level=level, platform=wanted))
    return made


# --- contexts, platforms, times ----------------------------------------------


def contexts(texts: Iterable[str]) -> dict[str, str]:
    """``--build-context NAME=PLACE``: the place, with every image as ``docker-image://``."""
    found: dict[str, str] = {}
    for text in texts:
        name, _, place = text.partition("=")
        if not name or not place:
            raise UsageError(
                f"--build-context {text!r}: is not NAME=PLACE",
                hint="a directory, a URL, docker-image://NAME or oci-layout://DIRECTORY",
            )
        scheme, separator, rest = place.partition("://")
        if separator and scheme in _IMAGE_SCHEMES:
            place = f"docker-image://{rest}"
        found[name] = place
    return found


def wanted_platforms(options: BuildOptions, env: Mapping[str, str]) -> tuple[Platform, ...]:
    """The platforms to build for, each once; empty when only the host's is meant."""
    texts = listed(options.platform)
    parts = (options.os, options.arch, options.variant)
    if texts and any(parts):
        raise UsageError("--platform cannot be used with --os, --arch or --variant")
    if any(parts):
        return (platforms.wanted("", *parts),)
    if not texts:
        texts = listed((env.get("DOCKER_DEFAULT_PLATFORM", ""),))
    found = [platforms.host() if text == "local" else platforms.wanted(text) for text in texts]
    return tuple(dict.fromkeys(found))


def timestamp(
    options: BuildOptions, arguments: Mapping[str, str], env: Mapping[str, str]
) -> int | None:
    """Seconds since the epoch that every file, ``created`` and the history get, or None.

    ``--timestamp`` wins; then ``--source-date-epoch``, then the build argument
    and the variable SOURCE_DATE_EPOCH.
    """
    if options.timestamp and options.source_date_epoch:
        raise UsageError("--timestamp and --source-date-epoch: only one can be given")
    for text, option in (
        (options.timestamp, "--timestamp"),
        (options.source_date_epoch, "--source-date-epoch"),
        (arguments.get("SOURCE_DATE_EPOCH", ""), "--build-arg SOURCE_DATE_EPOCH"),
        (env.get("SOURCE_DATE_EPOCH", ""), "SOURCE_DATE_EPOCH"),
    ):
        if text:
            return values.integer(text, option, highest=2**63 - 1)
    return None


def with_mounts(file: Dockerfile, texts: Iterable[str]) -> Dockerfile:
    """``--mount``: a Dockerfile whose every RUN has these mounts too, written as for RUN."""
    mounts = tuple(_mount(text) for text in texts)
    if not mounts:
        return file
    return replace(file, stages=tuple(_mounted(stage, mounts) for stage in file.stages))


def _mount(text: str) -> RunMount:
    try:
        made = dockerfile.parse_one(f"RUN --mount={text} :")
    except DockerfileError as error:
        raise UsageError(f"--mount {text}: {error.reason}", hint=error.hint) from None
    if not isinstance(made, Run) or len(made.mounts) != 1:
        raise UsageError(f"--mount {text!r}: is not one mount")
    return made.mounts[0]


def _mounted(stage: Stage, mounts: tuple[RunMount, ...]) -> Stage:
    instructions = tuple(
        replace(each, mounts=(*each.mounts, *mounts)) if isinstance(each, Run) else each
        for each in stage.instructions
    )
    return replace(stage, instructions=instructions)


# --- secrets and keys --------------------------------------------------------


def secrets(texts: Iterable[str], env: Mapping[str, str]) -> tuple[Secret, ...]:
    """``id=ID[,src=FILE|,env=NAME][,type=file|env]``.

    Without type and source an environment variable called ID is taken, else a file.
    """
    found = {secret.id: secret for secret in (_secret(text, env) for text in texts)}
    return tuple(found.values())


def _secret(text: str, env: Mapping[str, str]) -> Secret:
    given = attributes(text, "--secret", ("id", "type", "src", "source", "env"))
    identity = given.get("id", "")
    source = given.get("src", "") or given.get("source", "")
    variable = given.get("env", "")
    kind = given.get("type", "")
    if kind not in ("", "file", "env"):
        raise UsageError(f"--secret {text!r}: type must be file or env")
    if not identity:
        raise UsageError(f"--secret {text!r}: it needs an id=")
    if variable and (source or kind == "file"):
        raise UsageError(f"--secret {text!r}: env= and a file exclude each other")
    if kind == "env" or (not kind and not source and (variable or identity in env)):
        variable = variable or source or identity
    if variable:
        if variable not in env:
            raise UsageError(f"--secret {identity}: no variable {variable} in the environment")
        return Secret(id=identity, variable=variable)
    return Secret(id=identity, file=_readable(source or identity, f"--secret {identity}"))


def _readable(path: str, option: str) -> str:
    """An absolute path to a file that can be read."""
    if not os.path.isfile(path):
        cause = "is a directory" if os.path.isdir(path) else "no such file"
        raise UsageError(f"{option}: {path}: {cause}")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{option}: {path}: permission denied")
    return os.path.abspath(path)


def agents(texts: Iterable[str], env: Mapping[str, str]) -> tuple[Agent, ...]:
    """``default|ID[=SOCKET|KEY[,KEY…]]``; without paths it is the caller's agent."""
    found: dict[str, Agent] = {}
    for text in texts:
        identity, _, rest = text.partition("=")
        paths = [path for path in rest.split(",") if path] or [env.get("SSH_AUTH_SOCK", "")]
        if not identity:
            raise UsageError(f"--ssh {text!r}: it needs an id, such as default")
        if not paths[0]:
            raise UsageError(
                f"--ssh {identity}: no agent: SSH_AUTH_SOCK is not set",
                hint=f"start ssh-agent, or give a key: --ssh {identity}=FILE",
            )
        for path in paths:
            if not os.path.exists(path):
                raise UsageError(f"--ssh {identity}: {path}: no such file or socket")
        found[identity] = Agent(id=identity, paths=tuple(os.path.abspath(p) for p in paths))
    return tuple(found.values())


# --- choices -----------------------------------------------------------------


def cache_age(text: str) -> float | None:
    """``--cache-ttl``: results that are older (seconds) are not used; None for no limit."""
    return values.duration(text, "--cache-ttl") if text else None


def image_format(text: str, env: Mapping[str, str]) -> str:
    """``oci`` or ``docker``, from ``--format``, BUILDAH_FORMAT, else oci."""
    given = text or env.get("BUILDAH_FORMAT", "") or "oci"
    name = {"v2s2": "docker", "ociv1": "oci"}.get(given, given)
    return _choice(name, "--format", FORMATS)


def pull_policy(text: str) -> str:
    """A policy; ``--pull`` alone and ``true`` mean always, ``false`` and nothing missing."""
    said = {"": "missing", "true": "always", "false": "missing", "ifmissing": "missing",
            "ifnewer": "newer"}  # fmt: skip
    return _choice(said.get(text.lower(), text.lower()), "--pull", POLICIES)


def isolation(text: str, env: Mapping[str, str]) -> str:
    """``oci`` (namespaces for everything, also called rootless and default) or ``chroot``."""
    given = text or env.get("BUILDAH_ISOLATION", "") or "oci"
    if given in ("process", "hyperv"):
        raise UsageError(f"--isolation {given}: exists on Windows only")
    name = {"default": "oci", "rootless": "oci"}.get(given, given)
    return _choice(name, "--isolation", ISOLATIONS)


def call(options: BuildOptions) -> tuple[str, bool]:
    """What to do with the Dockerfile (one of CALLS), and whether JSON is wanted.

    ``--call METHOD[,format=json]``; ``--check`` is ``--call check``.
    """
    text, _, more = options.call.partition(",")
    method = {"lint": "check"}.get(text, text) or ("check" if options.check else "build")
    if options.check and method != "check":
        raise UsageError("--check and --call exclude each other")
    form = attributes(more, "--call", ("format",))["format"] if more else "text"
    return _choice(method, "--call", CALLS), _choice(form, "--call", ("text", "json")) == "json"


def layered(options: BuildOptions, env: Mapping[str, str]) -> bool:
    """Steps are looked up in the cache and kept in it: ``--layers``, BUILDAH_LAYERS, else yes."""
    if options.layers is not None:
        return options.layers
    text = env.get("BUILDAH_LAYERS", "")
    return values.boolean(text, "BUILDAH_LAYERS") if text else True


def uncached_stages(options: BuildOptions, file: Dockerfile) -> frozenset[str]:
    """The names that ``--no-cache-filter`` gives, in lower case; each must be a stage's."""
    known = {stage.name or f"stage-{stage.index}" for stage in file.stages}
    wanted = {name.lower() for name in listed(options.no_cache_filter)}
    for name in sorted(wanted - known):
        hint = f"stages: {', '.join(sorted(known))}"
        raise UsageError(f"--no-cache-filter {name}: no such stage", hint=hint)
    return frozenset(wanted)


def jobs(options: BuildOptions) -> int:
    """How many steps may run at once; by default one per processor, as for 0.

    With ``--stdin`` it is one: there is one standard input.
    """
    given = values.integer(options.jobs, "--jobs") if options.jobs else 0
    if options.stdin:
        if given > 1:
            raise UsageError(f"--jobs {given}: with --stdin only one step can run at a time")
        return 1
    return given or len(os.sched_getaffinity(0))


def _choice(text: str, option: str, known: Sequence[str]) -> str:
    if text not in known:
        raise UsageError(f"{option}: unknown {text!r}", hint=f"known: {', '.join(known)}")
    return text


# --- limits ------------------------------------------------------------------


def limits(options: BuildOptions) -> Limits:
    memory = values.size(options.memory, "--memory") if options.memory else 0
    swap: int | None = None
    if options.memory_swap:
        unlimited = options.memory_swap == "-1"
        swap = -1 if unlimited else values.size(options.memory_swap, "--memory-swap")
        if not memory and not unlimited:
            raise UsageError("--memory-swap: needs --memory too")
        if not unlimited and swap < memory:
            raise UsageError("--memory-swap: is memory plus swap, and cannot be below --memory")
    return Limits(
        memory=memory or None,
        swap=swap,
        cpu_period=_number(options.cpu_period, "--cpu-period", 1000, 1000000),
        cpu_quota=_number(options.cpu_quota, "--cpu-quota", 1000, 2**62),
        cpu_shares=_number(options.cpu_shares, "--cpu-shares", 2, 262144),
        cpuset_cpus=_cpuset(options.cpuset_cpus, "--cpuset-cpus"),
        cpuset_mems=_cpuset(options.cpuset_mems, "--cpuset-mems"),
    )


def _number(text: str, option: str, lowest: int, highest: int) -> int | None:
    """A limit; 0 (and, for quotas, -1) means none."""
    if text in ("", "0", "-1"):
        return None
    return values.integer(text, option, lowest=lowest, highest=highest)


def _cpuset(text: str, option: str) -> str:
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or not part.isascii():
            raise UsageError(f"{option}: invalid list {text!r}", hint="for example 0-3,7")
    return text


def shm_size(text: str) -> int | None:
    return values.size(text, "--shm-size") if text else None

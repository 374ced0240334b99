"""An image's configuration in the making: what each instruction does to it.

The configuration is the OCI image-spec's ``config.md`` as a JSON object, with
docker's extensions (``Healthcheck``, ``Shell``, ``OnBuild``).  Nothing here touches
a file; what makes layers is carried out elsewhere and written down here.
"""

from __future__ import annotations

import posixpath
import time

from podpy import files
from podpy.build import ports
from podpy.build.instructions import (
    Cmd,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from podpy.errors import BuildError, ImageError
from podpy.model import DEFAULT_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from podpy.build.instructions import Add, Command, Copy, Run
    from podpy.model import HealthCheck, Platform

_LIMIT = 8 << 20  # what readers take
DEFAULT_SHELL = ("/bin/sh", "-c")


def _listed(document: Mapping[str, Any], name: str, kind: type) -> Sequence[Any]:
    """A list of a stranger's document, whose elements are of a kind."""
    found = document.get(name) or ()
    if not isinstance(found, (list, tuple)) or not all(isinstance(each, kind) for each in found):
        raise ImageError(f"image config: {name} is not a list as it should be")
    return found


class Draft:
    """One stage's image: its configuration, history and what later instructions go by."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document: dict[str, Any] = {
            key: value for key, value in document.items() if key not in ("config", "history")
        }
        self.config: dict[str, Any] = dict(document.get("config") or {})
        _listed(self.config, "OnBuild", str)
        self.history: list[dict[str, Any]] = [
            dict(each) for each in _listed(document, "history", dict)
        ]
        self.has_command = False
        self._noted = sum(len(str(each.get("created_by"))) for each in self.history)

    @classmethod
    def scratch(cls, platform: Platform) -> Draft:
        """The empty image: a search path and a directory to be in, as docker gives it."""
        document: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os}
        if platform.variant:
            document["variant"] = platform.variant
        document["config"] = {"Env": [f"PATH={DEFAULT_PATH}"], "WorkingDir": "/"}
        return cls(document)

    def copy(self) -> Draft:
        """The same image for a stage that goes on from it."""
        return Draft({**self.document, "config": self.config, "history": self.history})

    # --- what instructions see -----------------------------------------------

    @property
    def env(self) -> dict[str, str]:
        pairs = (item.partition("=") for item in self.config.get("Env") or ())
        return {key: value for key, _, value in pairs}

    @property
    def shell(self) -> tuple[str, ...]:
        return tuple(self.config.get("Shell") or DEFAULT_SHELL)

    @property
    def user(self) -> str:
        return str(self.config.get("User") or "")

    @property
    def working_dir(self) -> str:
        return str(self.config.get("WorkingDir") or "/")

    def path(self, text: str) -> str:
        """A path of an instruction as an absolute one, a trailing slash kept."""
        joined = posixpath.normpath(posixpath.join(self.working_dir, text))
        if joined.startswith("//"):
            joined = joined[1:]
        return f"{joined}/" if text.endswith("/") and joined != "/" else joined

    # --- what instructions do ------------------------------------------------

    def apply(self, instruction: object) -> str:
        """Carry out an instruction that makes no layer; what the history says of it."""
        return _EFFECTS[type(instruction)](self, instruction)

    def note(self, text: str, *, layer: bool, created: float = 0.0) -> None:
        """One more entry of the history; those without a time get the image's at the end.

        It says all that instructions bring into the configuration, and so how large that gets.
        """
        self._noted += len(text)
        if self._noted > _LIMIT:
            raise BuildError(f"the image's configuration would be larger than {_LIMIT} bytes")
        entry: dict[str, Any] = {"created_by": text}
        if created:
            entry["created"] = timestamp_text(created)
        if self.document.get("author"):
            entry["author"] = self.document["author"]
        if not layer:
            entry["empty_layer"] = True
        self.history.append(entry)

    def join_layers(self, kept: int) -> None:
        """All layers above the ``kept`` lowest are one, which the last one's entry stands for."""
        with_layer = [entry for entry in self.history if not entry.get("empty_layer")]
        for entry in with_layer[kept:-1]:
            entry["empty_layer"] = True

    def set_env(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.config["Env"] = [
            f"{key}={value}" for key, value in {**self.env, **dict(pairs)}.items()
        ]

    def unset_env(self, names: Iterable[str]) -> None:
        gone = set(names)
        self.config["Env"] = [f"{k}={v}" for k, v in self.env.items() if k not in gone]

    def set_labels(self, pairs: Mapping[str, str]) -> None:
        if pairs:
            self.config["Labels"] = {**(self.config.get("Labels") or {}), **pairs}

    def unset_labels(self, names: Iterable[str]) -> None:
        unwanted = set(names)
        labels = self.config.get("Labels") or {}
        self.config["Labels"] = {key: labels[key] for key in labels if key not in unwanted}
        if not self.config["Labels"]:
            del self.config["Labels"]

    def take_triggers(self) -> tuple[str, ...]:
        """The ``ONBUILD`` instructions of the base image, which are carried out once."""
        return tuple(self.config.pop("OnBuild", None) or ())

    def finished(self, created: str, diff_ids: Sequence[str]) -> bytes:
        """The configuration's bytes: one order of keys, so that equal images are one."""
        document = {**self.document, "created": created}
        document["config"] = {key: self.config[key] for key in sorted(self.config)}
        document["rootfs"] = {"type": "layers", "diff_ids": list(diff_ids)}
        document["history"] = [{"created": created, **entry} for entry in self.history]
        return files.dumps({key: document[key] for key in sorted(document)}).encode()


def timestamp_text(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    fraction = f"{seconds % 1:.6f}"[1:].rstrip("0").rstrip(".")
    return f"{whole}{fraction}Z"


def words(command: Command, shell: Sequence[str]) -> list[str]:
    """A command as the words that are executed: exec form, or the shell with one line."""
    return list(command.words) if command.exec_form else [*shell, command.text]


def run_text(instruction: Run, shell: Sequence[str]) -> str:
    """RUN as the history shows it: the words that were executed."""
    command = instruction.command
    if command.exec_form:
        return f"RUN {' '.join(command.words)}"
    return f"RUN {' '.join(shell)} {command.script.rstrip()}"


def copy_text(instruction: Copy | Add) -> str:
    """COPY and ADD as the history shows them: flags, sources and destination, expanded."""
    flags = [
        f"--{name}={value}"
        for name, value in (
            ("from", getattr(instruction, "from_", "")),
            ("chown", instruction.chown),
            ("chmod", instruction.chmod),
            *(("exclude", pattern) for pattern in instruction.exclude),
        )
        if value
    ]
    flags += [f"--{name}" for name in ("link", "parents") if getattr(instruction, name, False)]
    documents = [f"<<{document.name}" for document in instruction.heredocs]
    words = (*flags, *instruction.sources, *documents, instruction.destination)
    return without_logins(f"{instruction.word} {' '.join(words)}")


def without_logins(text: str) -> str:
    """A text whose URLs have lost their user names and passwords: no record may hold them."""
    if "://" not in text or "@" not in text:
        return text
    import re

    return re.sub(r"(https?://)[^/?#\s\"']*@", r"\1", text, flags=re.IGNORECASE)


def listed(items: Sequence[str]) -> str:
    """An exec form as the history shows it."""
    return files.dumps(list(items))


def _cmd(draft: Draft, it: Cmd) -> str:
    draft.config["Cmd"] = words(it.command, draft.shell)
    draft.has_command = True
    return f"CMD {listed(draft.config['Cmd'])}"


def _entrypoint(draft: Draft, it: Entrypoint) -> str:
    draft.config["Entrypoint"] = words(it.command, draft.shell)
    if not draft.has_command:
        draft.config.pop("Cmd", None)  # a base image's CMD was meant for its own entry point
    return f"ENTRYPOINT {listed(draft.config['Entrypoint'])}"


def _env(draft: Draft, it: Env) -> str:
    draft.set_env(it.pairs)
    return "ENV " + " ".join(f"{key}={value}" for key, value in it.pairs)


def _label(draft: Draft, it: Label) -> str:
    draft.set_labels(dict(it.pairs))
    return "LABEL " + " ".join(f"{key}={value}" for key, value in it.pairs)


def _maintainer(draft: Draft, it: Maintainer) -> str:
    draft.document["author"] = it.text
    return f"MAINTAINER {it.text}"


def _expose(draft: Draft, it: Expose) -> str:
    found = dict(draft.config.get("ExposedPorts") or {})
    for text in it.ports:
        found.update({key: {} for key in ports.keys(text)})
    draft.config["ExposedPorts"] = {key: {} for key in sorted(found)}
    return f"EXPOSE {' '.join(it.ports)}"


def _volume(draft: Draft, it: Volume) -> str:
    volumes = {**(draft.config.get("Volumes") or {}), **{path: {} for path in it.paths}}
    draft.config["Volumes"] = {key: {} for key in sorted(volumes)}
    return f"VOLUME {listed(it.paths)}"


def _user(draft: Draft, it: User) -> str:
    draft.config["User"] = it.user
    return f"USER {it.user}"


def _workdir(draft: Draft, it: Workdir) -> str:
    draft.config["WorkingDir"] = draft.path(it.path.rstrip("/") or "/")
    return f"WORKDIR {draft.config['WorkingDir']}"


def _stop_signal(draft: Draft, it: StopSignal) -> str:
    draft.config["StopSignal"] = it.signal
    return f"STOPSIGNAL {it.signal}"


def _shell(draft: Draft, it: Shell) -> str:
    draft.config["Shell"] = list(it.words)
    return f"SHELL {listed(it.words)}"


def _healthcheck(draft: Draft, it: Healthcheck) -> str:
    if it.check is None:
        draft.config["Healthcheck"] = {"Test": ["NONE"]}
        return "HEALTHCHECK NONE"
    draft.config["Healthcheck"] = _health(it.check)
    return f"HEALTHCHECK {files.dumps(draft.config['Healthcheck'])}"


def _health(check: HealthCheck) -> dict[str, Any]:
    """Docker's form: durations in nanoseconds, what was not given (0) left out."""
    made: dict[str, Any] = {"Test": list(check.test)}
    for key, value in (
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ):
        if value:
            made[key] = round(value * 1e9)
    if check.retries:
        made["Retries"] = check.retries
    return made


def _onbuild(draft: Draft, it: Onbuild) -> str:
    draft.config["OnBuild"] = [*(draft.config.get("OnBuild") or ()), it.text]
    return f"ONBUILD {it.text}"


_EFFECTS: dict[type, Callable[[Draft, Any], str]] = {
    Cmd: _cmd,
    Entrypoint: _entrypoint,
    Env: _env,
    Expose: _expose,
    Healthcheck: _healthcheck,
    Label: _label,
    Maintainer: _maintainer,
    Onbuild: _onbuild,
    Shell: _shell,
    StopSignal: _stop_signal,
    User: _user,
    Volume: _volume,
    Workdir: _workdir,
}

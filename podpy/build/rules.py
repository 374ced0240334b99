"""The rules of the linter: one pass over a Dockerfile that notes what looks like a mistake."""

from __future__ import annotations

from podpy.build import instructions, words
from podpy.build.diagnostics import DockerfileError, LintWarning, Location, Problem, suggest
from podpy.build.dockerfile import Stage
from podpy.build.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Label,
    Maintainer,
    Shell,
    Workdir,
)
from podpy.build.variables import Expander
from podpy.errors import UsageError
from podpy.records import EMPTY, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from podpy.build.dockerfile import Dockerfile
    from podpy.build.instructions import Instruction

RULES = {
    "ConsistentInstructionCasing": "instructions are written in one case, upper or lower",
    "CopyIgnoredFile": "what COPY and ADD name is not in the build context: it is ignored",
    "DuplicateStageName": "a stage has a name of its own",
    "ExposeInvalidFormat": "EXPOSE takes ports of the container, no addresses or ports of the host",
    "ExposeProtoCasing": "protocols in EXPOSE are written in lower case",
    "FromAsCasing": "AS is written in the case of its FROM",
    "FromPlatformFlagConstDisallowed": "FROM --platform with a constant builds for one platform",
    "InvalidDefaultArgInFrom": "the defaults of global ARGs make a valid image name",
    "InvalidDefinitionDescription": "a comment right above FROM or ARG begins with its name",
    "JSONArgsRecommended": "CMD and ENTRYPOINT are JSON lists; a shell would not pass on signals",
    "LegacyKeyValueFormat": "ENV and LABEL are written key=value",
    "MaintainerDeprecated": "MAINTAINER is deprecated in favour of a label",
    "MultipleInstructionsDisallowed": "of several CMD, ENTRYPOINT, HEALTHCHECK the last one counts",
    "NoEmptyContinuation": "no empty lines between continued lines",
    "RedundantTargetPlatform": "FROM --platform=$TARGETPLATFORM is what FROM does anyway",
    "ReservedStageName": "a stage is not called scratch or context",
    "SecretsUsedInArgOrEnv": "ARG and ENV are no place for secrets: they stay in the image",
    "StageNameCasing": "names of stages are written in lower case",
    "UndefinedArgInFrom": "FROM uses ARGs that are declared before it",
    "UndefinedVar": "variables are defined before they are used",
    "WorkdirRelativePath": "a relative WORKDIR depends on what the base image has",
}

# That they are defined is what matters to the rules, not what they are.
_PREDEFINED = {
    **{f"{side}{part}": value
       for side in ("BUILD", "TARGET")
       for part, value in (("PLATFORM", "linux/amd64"), ("OS", "linux"), ("OSVERSION", ""),
                           ("ARCH", "amd64"), ("VARIANT", ""))},
    "TARGETSTAGE": "default",
}  # fmt: skip

_SECRETS = frozenset((
    "apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret",
    "token",
))  # fmt: skip
_NO_SECRETS = frozenset(("public", "file", "version"))


@record
class BaseImage:
    """What a check wants to know of a base image that is at hand."""

    environment: tuple[str, ...] = ()
    has_shell: bool = False


def warning(rule: str, message: str, location: Location) -> LintWarning:
    kebab = "".join(f"-{c.lower()}" if c.isupper() else c for c in rule.replace("JSON", "Json"))
    return LintWarning(
        rule=rule,
        message=message,
        description=RULES[rule],
        url=f"https://docs.docker.com/go/dockerfile/rule/{kebab[1:]}/",
        location=location,
    )


class Scope:
    """What is known at one point of a stage; a later stage continues an earlier one's."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = dict(values)
        self.declared: set[str] = set()
        self.base_known = True
        self.has_shell = False
        self.has_workdir = False

    def child(self) -> Scope:
        made = Scope(self.values)
        made.declared = set(self.declared)
        made.base_known = self.base_known
        made.has_shell = self.has_shell
        made.has_workdir = self.has_workdir
        return made


class Checker:
    """One pass over a Dockerfile; the rules add to ``found``."""

    def __init__(
        self,
        dockerfile: Dockerfile,
        arguments: Mapping[str, str],
        ignored: Callable[[str], bool] | None,
        images: Callable[[str], BaseImage | None] | None,
    ) -> None:
        self.file = dockerfile
        self.arguments = arguments
        self.ignored = ignored
        self.images = images
        self.found: list[LintWarning] = []
        self.scopes: dict[str, Scope] = {}

    def tell(self, rule: str, message: str, where: Instruction | Stage) -> None:
        self.found.append(warning(rule, message, where.location))

    def all(self) -> list[LintWarning]:
        for gap in self.file.warnings:
            self.found.append(warning(gap.rule, gap.message, gap.location))
        for argument in self.file.arguments:
            self._description("ARG", [name for name, _ in argument.pairs], argument)
        self._casing()
        given = self._globals(self.arguments)
        defaults = self._globals(EMPTY)
        for stage in self.file.stages:
            self._names(stage)
            self._default_base(stage, defaults)
            self._stage(stage, given)
        return self.found

    # --- the file as a whole ---

    def _casing(self) -> None:
        parts: list[Stage | Instruction] = []
        for stage in self.file.stages:
            parts += (stage, *stage.instructions)
        placed = [(words.partition(part.original)[0], part) for part in parts]
        lower = sum(word == word.lower() for word, _ in placed)
        upper = sum(word == word.upper() for word, _ in placed)
        case, change = ("lower", str.lower) if lower > upper else ("upper", str.upper)
        for word, part in placed:
            if word != change(word):
                message = f"{word!a} is not in {case} case as most instructions here are"
                self.tell("ConsistentInstructionCasing", message, part)

    def _globals(self, given: Mapping[str, str]) -> dict[str, str]:
        """The values of the arguments before the first FROM that have one."""
        values = {**_PREDEFINED, **{n: given[n] for n in _PREDEFINED if n in given}}
        for argument in self.file.arguments:
            for name, default in argument.pairs:
                if name in given:
                    values[name] = given[name]
                elif default is not None:
                    values[name] = self._expand(default, Expander(values, escape=self.file.escape))
        return values

    def _expand(self, text: str, expander: Expander) -> str:
        """A text expanded; a mistake in it is the build's to tell."""
        try:
            return expander.word(text)
        except Problem:
            return ""

    # --- FROM ---

    def _names(self, stage: Stage) -> None:
        word, _, rest = words.command(stage.original)
        parts = words.split_blanks(rest)
        if len(parts) != 3:
            return
        if word in (word.lower(), word.upper()):
            fits = parts[1].lower() if word == word.lower() else parts[1].upper()
            if parts[1] != fits:
                self.tell("FromAsCasing", f"{parts[1]!a} is not in the case of {word!a}", stage)
        if parts[2] != stage.name:
            self.tell("StageNameCasing", f"stage name {parts[2]!a} is not in lower case", stage)
        if stage.name in ("scratch", "context"):
            self.tell("ReservedStageName", f"stage name {stage.name!a} is reserved", stage)
        if any(earlier.name == stage.name for earlier in self.file.stages[: stage.index]):
            self.tell("DuplicateStageName", f"stage name {stage.name!a} is taken", stage)
        self._description("FROM", [stage.name], stage)

    def _description(self, word: str, names: list[str], where: Stage | Arg) -> None:
        if where.comments and where.comments[-1].partition(" ")[0] not in names:
            name = names[0] if len(names) == 1 else "NAME"
            message = f"the comment above {word} does not begin with {name!a}"
            self.tell("InvalidDefinitionDescription", message, where)

    def _default_base(self, stage: Stage, defaults: Mapping[str, str]) -> None:
        if "$" not in stage.base:
            return
        from podpy.registry import reference

        try:
            base = Expander(defaults, escape=self.file.escape).word(stage.base)
            reference.parse(base)
        except Problem:
            return
        except UsageError:
            message = f"with defaults alone, {stage.base!a} is {base!a}, no image name"
            self.tell("InvalidDefaultArgInFrom", message, stage)

    def _from(self, stage: Stage, given: Mapping[str, str]) -> str:
        """The base expanded."""
        expander = Expander(given, escape=self.file.escape)
        base = self._expand(stage.base, expander)
        of_platform = Expander(given, escape=self.file.escape)
        platform = self._expand(stage.platform, of_platform)
        if list(of_platform.used) == ["TARGETPLATFORM"] and platform == given["TARGETPLATFORM"]:
            message = f"--platform={stage.platform} is the default"
            self.tell("RedundantTargetPlatform", message, stage)
        if platform and "$" not in stage.platform and not _is_named_for(stage.name, platform):
            message = f"--platform={platform} is a constant"
            self.tell("FromPlatformFlagConstDisallowed", message, stage)
        known = {name for argument in self.file.arguments for name, _ in argument.pairs}
        for name in {**expander.unset, **of_platform.unset}:
            if name not in known:
                hint = _in_brackets(suggest(name, [*known, *given]))
                self.tell("UndefinedArgInFrom", f"{name!a} is not declared{hint}", stage)
        return base

    # --- stages ---

    def _stage(self, stage: Stage, given: Mapping[str, str]) -> None:
        scope = self._base(self._from(stage, given))
        last: dict[str, Instruction] = {}
        for instruction in stage.instructions:
            if isinstance(instruction, (Cmd, Entrypoint, Healthcheck)):
                if instruction.word in last:
                    message = f"a later {instruction.word} of this stage replaces this one"
                    where = last[instruction.word]
                    self.tell("MultipleInstructionsDisallowed", message, where)
                last[instruction.word] = instruction
            if isinstance(instruction, Arg):
                self._argument(instruction, scope, given)
            else:
                self._instruction(instruction, scope)
        self.scopes[str(stage.index)] = scope
        if stage.name:
            self.scopes[stage.name] = scope

    def _base(self, base: str) -> Scope:
        if base.lower() in self.scopes:
            return self.scopes[base.lower()].child()
        scope = Scope({"PATH": ""})
        if base == "scratch":
            return scope
        image = self.images(base) if self.images else None
        if image is None:
            scope.base_known = False
            return scope
        scope.values.update(item.partition("=")[::2] for item in image.environment)
        scope.has_shell = image.has_shell
        return scope

    def _argument(self, instruction: Arg, scope: Scope, given: Mapping[str, str]) -> None:
        self._description("ARG", [name for name, _ in instruction.pairs], instruction)
        for name, default in instruction.pairs:
            self.secret(name, instruction)
            if name in self.arguments:
                scope.values[name] = self.arguments[name]
            elif default is not None:
                expander = Expander(scope.values, escape=self.file.escape)
                value = self._expand(default, expander)
                self._unset(expander, scope, instruction)
                scope.values[name] = value
            elif name in given:
                scope.values[name] = given[name]
            scope.declared.add(name)

    def secret(self, name: str, where: Instruction) -> None:
        parts = set(name.lower().split("_"))
        if parts & _SECRETS and not parts & _NO_SECRETS:
            self.tell("SecretsUsedInArgOrEnv", f"{where.word} {name!a} looks like a secret", where)

    def _unset(self, expander: Expander, scope: Scope, where: Instruction) -> None:
        for name in expander.unset:
            if name in scope.declared or name.startswith("BUILDKIT_SBOM_SCAN_"):
                continue
            hint = _in_brackets(suggest(name, scope.values))
            if scope.base_known or hint:
                self.tell("UndefinedVar", f"variable {name!a} is not defined{hint}", where)

    def _instruction(self, instruction: Instruction, scope: Scope) -> None:
        expander = Expander(scope.values, escape=self.file.escape)
        try:
            resolved = instructions.resolve_with(instruction, expander)
        except DockerfileError:
            return
        self._unset(expander, scope, instruction)
        rule = _BY_INSTRUCTION.get(type(instruction))
        if rule:
            rule(self, resolved, scope)


def _in_brackets(hint: str) -> str:
    return f" ({hint})" if hint else ""


def _is_named_for(stage: str, platform: str) -> bool:
    """Whether the name of a stage says that it is for one platform."""
    aliases = {"x86_64": "amd64", "aarch64": "arm64", "x86-64": "amd64"}
    parts = platform.lower().split("/")[:2]
    return any(part in stage or aliases.get(part, part) in stage for part in parts)


# --- the rules of single instructions ----------------------------------------


def _check_env(run: Checker, instruction: Env, scope: Scope) -> None:
    _check_label(run, instruction, scope)
    for name, value in instruction.pairs:
        run.secret(name, instruction)
        scope.values[name] = value


def _check_label(run: Checker, instruction: Env | Label, _: Scope) -> None:
    if instruction.legacy:
        message = f"{instruction.word} key value is the old form of {instruction.word} key=value"
        run.tell("LegacyKeyValueFormat", message, instruction)


def _check_command(run: Checker, instruction: Cmd | Entrypoint, scope: Scope) -> None:
    if not instruction.command.exec_form and not scope.has_shell:
        message = f"{instruction.word} without a JSON list: its shell does not pass on signals"
        run.tell("JSONArgsRecommended", message, instruction)


def _check_shell(_: Checker, __: Shell, scope: Scope) -> None:
    scope.has_shell = True


def _check_maintainer(run: Checker, instruction: Maintainer, _: Scope) -> None:
    message = "write LABEL org.opencontainers.image.authors=… instead of MAINTAINER"
    run.tell("MaintainerDeprecated", message, instruction)


def _check_workdir(run: Checker, instruction: Workdir, scope: Scope) -> None:
    if not scope.has_workdir and not instruction.path.startswith("/"):
        message = f"{instruction.path!a} is relative to the directory of the base image"
        run.tell("WorkdirRelativePath", message, instruction)
    scope.has_workdir = True


def _check_expose(run: Checker, instruction: Expose, _: Scope) -> None:
    for port in instruction.ports:
        protocol = port.partition("/")[2]
        if protocol != protocol.lower():
            run.tell("ExposeProtoCasing", f"protocol of {port!a} is not lower case", instruction)
        if ":" in port:
            run.tell("ExposeInvalidFormat", f"{port!a} has an address or a port of the host",
                     instruction)  # fmt: skip


def _check_sources(run: Checker, instruction: Copy | Add, _: Scope) -> None:
    if run.ignored is None or (isinstance(instruction, Copy) and instruction.from_):
        return
    import posixpath

    for source in instruction.sources:
        if isinstance(instruction, Add) and ("://" in source or source.startswith("git@")):
            continue
        path = posixpath.normpath(f"/{source}").lstrip("/")
        if path and run.ignored(path):
            message = f"{instruction.word} of {source!a}, which an ignore file excludes"
            run.tell("CopyIgnoredFile", message, instruction)


_BY_INSTRUCTION: dict[type, Callable[[Checker, Any, Scope], None]] = {
    Add: _check_sources,
    Cmd: _check_command,
    Copy: _check_sources,
    Entrypoint: _check_command,
    Env: _check_env,
    Expose: _check_expose,
    Label: _check_label,
    Maintainer: _check_maintainer,
    Shell: _check_shell,
    Workdir: _check_workdir,
}

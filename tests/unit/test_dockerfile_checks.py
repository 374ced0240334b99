"""The rules of ``build --check``, each with what breaks it and what does not."""

from __future__ import annotations

import pytest

from podpy.build import checks, rules
from podpy.build.dockerfile import parse
from podpy.build.ignore import Ignore
from podpy.build.rules import RULES, BaseImage
from podpy.errors import BuildError, UsageError


def told(text: str, arguments: dict[str, str] | None = None) -> list[tuple[str, int]]:
    return [
        (found.rule, found.location.first) for found in checks.check(parse(text), arguments or {})
    ]


S = "FROM scratch\n"


@pytest.mark.parametrize(
    ("rule", "text", "lines"),
    [
        ("StageNameCasing", "FROM scratch AS BadName", [1]),
        ("StageNameCasing", "FROM scratch AS good", []),
        ("FromAsCasing", "FROM scratch as a\nFROM scratch AS b", [1]),
        ("FromAsCasing", "from scratch AS a\nfrom scratch as b", [1]),
        ("FromAsCasing", "FROM scratch As a", [1]),
        # A FROM in no case at all is another rule's.
        ("FromAsCasing", "From scratch as a", []),
        ("FromAsCasing", "FROM --platform=$BUILDPLATFORM scratch as a", [1]),
        ("NoEmptyContinuation", S + "COPY a \\\n\n.\nCOPY a \\\n.", [2]),
        ("NoEmptyContinuation", S + "COPY a \\\n# comment\n.", []),
        ("ConsistentInstructionCasing", S + "copy a /b\nCOPY a /c", [2]),
        ("ConsistentInstructionCasing", "from scratch\nCOPY a /b\ncopy a /c", [2]),
        ("ConsistentInstructionCasing", "from scratch\nCOPY a /b\nCOPY a /c", [1]),
        ("ConsistentInstructionCasing", "FROM scratch\nCopy a /b", [2]),
        ("ConsistentInstructionCasing", "frOM scratch\nfrom scratch", [1]),
        ("ConsistentInstructionCasing", "from scratch\ncopy a /b", []),
        ("ConsistentInstructionCasing", "arg a=1\nFROM scratch", []),
        ("DuplicateStageName", "FROM scratch AS b\nFROM scratch AS b", [2]),
        ("DuplicateStageName", "FROM scratch AS b\nFROM scratch AS B\nFROM scratch", [2]),
        ("DuplicateStageName", "FROM scratch AS b\nFROM scratch AS c", []),
        ("ReservedStageName", "FROM x AS scratch\nFROM x AS context\nFROM x AS contexts", [1, 2]),
        ("JSONArgsRecommended", S + "CMD a b", [2]),
        ("JSONArgsRecommended", S + "ENTRYPOINT a\nCMD b", [2, 3]),
        ("JSONArgsRecommended", S + 'CMD ["a"]\nENTRYPOINT []', []),
        ("JSONArgsRecommended", S + 'SHELL ["/bin/bash", "-c"]\nCMD a', []),
        ("JSONArgsRecommended", 'FROM x AS a\nSHELL ["b"]\nFROM a\nCMD c', []),
        ("MaintainerDeprecated", S + "MAINTAINER me@example.org", [2]),
        ("MaintainerDeprecated", S + "LABEL org.opencontainers.image.authors=me", []),
        ("UndefinedArgInFrom", "FROM x:$VERSION", [1]),
        ("UndefinedArgInFrom", "ARG VERSION\nFROM x:$VERSION", []),
        ("UndefinedArgInFrom", "ARG VERSION=1\nFROM x:${VERSION}", []),
        ("UndefinedArgInFrom", "FROM x:${VERSION:-1}", []),
        ("UndefinedArgInFrom", "FROM --platform=$BULIDPLATFORM x", [1]),
        ("UndefinedArgInFrom", "FROM --platform=$BUILDPLATFORM x-$TARGETARCH", []),
        ("UndefinedArgInFrom", "FROM x AS a\nARG V=1\nFROM y:$V", [3]),
        ("WorkdirRelativePath", S + "WORKDIR a", [2]),
        ("WorkdirRelativePath", S + "WORKDIR /a\nWORKDIR b", []),
        ("WorkdirRelativePath", S + "WORKDIR a\nWORKDIR b", [2]),
        ("WorkdirRelativePath", "FROM x AS a\nWORKDIR /a\nFROM a\nWORKDIR b", []),
        ("WorkdirRelativePath", "FROM x\nENV D=/d\nWORKDIR $D", []),
        ("UndefinedVar", S + "COPY $foo .", [2]),
        ("UndefinedVar", S + "ARG foo\nCOPY $foo .", []),
        ("UndefinedVar", S + "ENV foo=1\nCOPY $foo .", []),
        ("UndefinedVar", S + "COPY ${foo:-x} .", []),
        ("UndefinedVar", S + "COPY $foo .\nARG foo", [2]),
        ("UndefinedVar", S + "ENV foo=1 bar=$foo", [2]),
        ("UndefinedVar", S + "ENV PATH=$PAHT:/app/bin", [2]),
        ("UndefinedVar", S + "ENV PATH=$PATH:/app/bin", []),
        ("UndefinedVar", S + "RUN echo $foo", []),
        ("UndefinedVar", S + "RUN --mount=type=cache,target=$foo,id=x a", []),
        ("UndefinedVar", S + "RUN --mount=type=cache,target=/a$foo,id=x a", [2]),
        ("UndefinedVar", S + "COPY <<E /x\n$foo\nE", [2]),
        ("UndefinedVar", S + "COPY <<'E' /x\n$foo\nE", []),
        ("UndefinedVar", "ARG foo=1\n" + S + "COPY $foo .", [3]),
        ("UndefinedVar", "ARG foo=1\n" + S + "ARG foo\nCOPY $foo .", []),
        ("UndefinedVar", S + "ARG TARGETARCH\nCOPY $TARGETARCH .", []),
        ("UndefinedVar", S + "ARG a=$b\nLABEL c=$a", [2]),
        ("UndefinedVar", "FROM scratch AS a\nARG foo=1\nENV bar=2\nFROM a\nCOPY $foo $bar .", []),
        ("UndefinedVar", "FROM scratch AS a\nARG foo=1\nFROM scratch\nCOPY $foo .", [4]),
        # What the environment of an image at hand is nobody knows: only misspelt names are told.
        ("UndefinedVar", "FROM image\nCOPY $JAVA_HOME .", []),
        ("UndefinedVar", "FROM image\nENV PATH=$PTAH:/x", [2]),
        ("MultipleInstructionsDisallowed", S + 'CMD ["a"]\nCMD ["b"]\nCMD ["c"]', [2, 3]),
        ("MultipleInstructionsDisallowed", S + 'ENTRYPOINT ["a"]\nENTRYPOINT ["b"]', [2]),
        ("MultipleInstructionsDisallowed", S + "HEALTHCHECK CMD a\nHEALTHCHECK NONE", [2]),
        ("MultipleInstructionsDisallowed", S + 'CMD ["a"]\nFROM scratch\nCMD ["b"]', []),
        ("LegacyKeyValueFormat", S + "ENV a b\nLABEL c d\nENV e=f", [2, 3]),
        ("RedundantTargetPlatform", "FROM --platform=$TARGETPLATFORM x", [1]),
        ("RedundantTargetPlatform", "FROM --platform=${TARGETPLATFORM} x", [1]),
        ("RedundantTargetPlatform", "FROM --platform=$BUILDPLATFORM x", []),
        ("RedundantTargetPlatform", "FROM --platform=linux/$TARGETARCH x", []),
        ("SecretsUsedInArgOrEnv", S + "ARG AWS_SECRET_ACCESS_KEY", [2]),
        ("SecretsUsedInArgOrEnv", S + "ENV GITHUB_TOKEN=x password=y", [2, 2]),
        ("SecretsUsedInArgOrEnv", S + "ENV AUTH=x\nARG apikey=1 pword", [2, 3, 3]),
        ("SecretsUsedInArgOrEnv", S + "ENV MONKEY=x AUTHOR=y TOKENS=z KEYBOARD=q", []),
        ("SecretsUsedInArgOrEnv", S + "ENV PUBLIC_KEY=x PASSWORD_FILE=y KEY_VERSION=z", []),
        ("InvalidDefaultArgInFrom", "ARG TAG\nFROM x:${TAG}", [2]),
        ("InvalidDefaultArgInFrom", "ARG IMAGE\nFROM $IMAGE", [2]),
        ("InvalidDefaultArgInFrom", "ARG TAG=latest\nFROM x:${TAG}", []),
        ("InvalidDefaultArgInFrom", "ARG TAG\nFROM x:${TAG:-1}", []),
        ("InvalidDefaultArgInFrom", "ARG TAG\nFROM x${TAG:+:$TAG}", []),
        ("FromPlatformFlagConstDisallowed", "FROM --platform=linux/amd64 x", [1]),
        ("FromPlatformFlagConstDisallowed", "FROM --platform=linux/amd64 x AS build_amd64", []),
        ("FromPlatformFlagConstDisallowed", "FROM --platform=linux/x86_64 x AS on-amd64", []),
        ("FromPlatformFlagConstDisallowed", "FROM --platform=linux/arm64 x AS build", [1]),
        ("FromPlatformFlagConstDisallowed", "FROM --platform=$BUILDPLATFORM x", []),
        ("FromPlatformFlagConstDisallowed", "ARG P=linux/arm64\nFROM --platform=$P x", []),
        ("ExposeProtoCasing", S + "EXPOSE 80/TCP\nEXPOSE 81/udp 82", [2]),
        ("ExposeInvalidFormat", S + "EXPOSE 127.0.0.1:80:80\nEXPOSE 80:80\nEXPOSE 80", [2, 3]),
    ],
)
def test_rules(rule: str, text: str, lines: list[int]) -> None:
    assert [line for name, line in told(text) if name == rule] == lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("# base is one\nFROM scratch AS base", []),
        ("# other words\nFROM scratch AS base", [2]),
        ("# other words\n\nFROM scratch AS base", []),
        ("# other words\n#\nFROM scratch AS base", []),
        ("# other words\nFROM scratch", []),
        ("# first\n# base is one\nFROM scratch AS base", []),
        ("# V is one\nARG V=1\n# what\nARG W\nFROM scratch", [4]),
        ("FROM scratch\n# B b\nARG A B\n# C\nARG A B", [5]),
        ("# syntax=x\nFROM scratch AS base", []),
    ],
)
def test_descriptions_are_checked_on_request(text: str, lines: list[int]) -> None:
    rule = "InvalidDefinitionDescription"
    assert rule not in [name for name, _ in told(text)]
    for experimental in (rule, "all", f"X, {rule}"):
        setting = {"BUILDKIT_DOCKERFILE_CHECK": f"experimental={experimental}"}
        assert [line for name, line in told(text, setting) if name == rule] == lines


def test_sources_that_an_ignore_file_excludes() -> None:
    file = parse(
        "FROM scratch AS a\nCOPY ./tmp/x.txt /a\nADD tmp/ /b\nCOPY /tmp/../ok /c\n"
        "ADD https://tmp/x /d\nCOPY --from=a tmp /e\nADD git@tmp:x.git /f\nCOPY . /g\n"
    )
    found = checks.check(file, ignored=lambda path: path.split("/")[0] == "tmp")
    assert [one.location.first for one in found if one.rule == "CopyIgnoredFile"] == [2, 3]
    assert checks.check(file) == ()


@pytest.mark.parametrize(
    ("patterns", "lines"),
    [
        (["dir"], [2]),
        (["*"], [2, 3]),
        (["dir", "!dir/file"], []),
        (["*", "!other"], [2]),
        (["**", "!dir"], [3]),
        (["di?"], [2]),
        ([], []),
    ],
)
def test_directories_that_are_taken_back_in_part(patterns: list[str], lines: list[int]) -> None:
    file = parse("FROM scratch\nCOPY dir /a\nCOPY other /b\nCOPY . /c\n")
    found = checks.check(file, ignored=Ignore(patterns).hides)
    assert [one.location.first for one in found] == lines


def test_base_images_that_are_at_hand() -> None:
    asked: list[str] = []

    def images(base: str) -> BaseImage | None:
        asked.append(base)
        return BaseImage(environment=("HOME=/root", "EMPTY="), has_shell=True)

    file = parse(
        "ARG V=1\nFROM image:$V AS a\nCOPY $HOME $EMPTY $WHAT /x/\nCMD a\nFROM a\nFROM scratch\n"
    )
    (found,) = checks.check(file, {"V": "2"}, images=images)
    assert asked == ["image:2"]
    assert (found.rule, found.location.first) == ("UndefinedVar", 3)
    assert "WHAT" in found.message


def test_a_warning_says_all_about_itself() -> None:
    (found,) = checks.check(parse("FROM scratch\nENV PATH=$PAHT", "x/Dockerfile"))
    assert found.rule == "UndefinedVar"
    assert "PAHT" in found.message
    assert "did you mean PATH?" in found.message
    assert found.description == RULES["UndefinedVar"]
    assert found.url == "https://docs.docker.com/go/dockerfile/rule/undefined-var/"
    assert str(found.location) == "x/Dockerfile:2"


def test_urls_are_the_published_ones() -> None:
    location = parse(S).stages[0].location
    for rule, name in (
        ("JSONArgsRecommended", "json-args-recommended"),
        ("SecretsUsedInArgOrEnv", "secrets-used-in-arg-or-env"),
        ("FromAsCasing", "from-as-casing"),
    ):
        assert rules.warning(rule, "", location).url.endswith(f"/rule/{name}/")


def test_warnings_come_in_the_order_of_lines_and_once() -> None:
    text = "FROM scratch\nMAINTAINER a\nENV a $b$b\nfrom scratch as X\nCMD a"
    found = told(text)
    assert [line for _, line in found] == sorted(line for _, line in found)
    assert len(found) == len(set(found))


def test_a_good_file_has_none() -> None:
    text = (
        "# syntax=docker/dockerfile:1\nARG V=3\n\nFROM alpine:$V AS build\nARG TARGETARCH\n"
        "WORKDIR /src\nRUN --mount=type=cache,target=/c make ARCH=$TARGETARCH\n\nFROM scratch\n"
        'COPY --from=build /src/x /x\nEXPOSE 80/tcp\nENTRYPOINT ["/x"]\n'
    )
    assert told(text) == []


def test_a_mistake_in_a_variable_is_the_build_s_to_tell() -> None:
    assert told("ARG A=${\nFROM a:${A:?x}\nENV b=${}\nCOPY '$x y\n") == []


# --- settings ----------------------------------------------------------------

_TWO = "FROM scratch AS A\nMAINTAINER x\n"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("", ["StageNameCasing", "MaintainerDeprecated"]),
        ("skip=StageNameCasing", ["MaintainerDeprecated"]),
        ("skip=StageNameCasing,MaintainerDeprecated", []),
        ("skip = StageNameCasing , X ; error = true", ["MaintainerDeprecated"]),
        ("skip=stagenamecasing", ["StageNameCasing", "MaintainerDeprecated"]),
        ("skip=all", []),
        ("skip=all;error=true", []),
        ("error=true", ["StageNameCasing", "MaintainerDeprecated"]),
    ],
)
def test_skipping(setting: str, expected: list[str]) -> None:
    assert [rule for rule, _ in told(f"# check={setting}\n{_TWO}")] == expected
    assert [rule for rule, _ in told(_TWO, {"BUILDKIT_DOCKERFILE_CHECK": setting})] == expected


def test_the_build_argument_replaces_the_directive() -> None:
    text = f"# check=skip=all\n{_TWO}"
    found = told(text, {"BUILDKIT_DOCKERFILE_CHECK": "skip=StageNameCasing"})
    assert [rule for rule, _ in found] == ["MaintainerDeprecated"]


@pytest.mark.parametrize("setting", ["skip", "error=maybe", "wrong=x", "skip=all,error=true;x"])
def test_settings_that_are_none(setting: str) -> None:
    if setting == "skip":
        assert checks.settings(parse(S), {"BUILDKIT_DOCKERFILE_CHECK": "skip="}).skip == {""}
        return
    with pytest.raises(UsageError, match="unknown setting"):
        checks.settings(parse(S), {"BUILDKIT_DOCKERFILE_CHECK": setting})


@pytest.mark.parametrize(
    ("setting", "raises"),
    [("", False), ("error=false", False), ("error=true", True), ("error=1", True),
     ("skip=all;error=true", False)],
)  # fmt: skip
def test_enforcing(setting: str, raises: bool) -> None:
    file = parse(_TWO)
    arguments = {"BUILDKIT_DOCKERFILE_CHECK": setting}
    found = checks.check(file, arguments)
    if raises:
        with pytest.raises(BuildError, match="MaintainerDeprecated, StageNameCasing"):
            checks.enforce(file, arguments, found)
    else:
        checks.enforce(file, arguments, found)

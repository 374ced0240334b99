"""Dockerfiles that break the rules: what is said, where, and what is expected instead."""

from __future__ import annotations

import random

import pytest

from podpy.build import instructions
from podpy.build.diagnostics import DockerfileError, Location, suggest
from podpy.build.dockerfile import parse, parse_one

_WORDS = (
    "RUN", "CMD", "ENTRYPOINT", "COPY", "ADD", "ENV", "LABEL", "ARG", "EXPOSE", "VOLUME", "USER",
    "WORKDIR", "STOPSIGNAL", "SHELL", "HEALTHCHECK", "ONBUILD", "MAINTAINER",
)  # fmt: skip


def error_of(text: str) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        parse(text)
    return caught.value


def test_an_error_has_the_place_the_line_and_a_caret() -> None:
    error = error_of("FROM a\n\nRUN x\n  COPY --form=b  c /d\n")
    assert error.message.splitlines() == [
        "Dockerfile:4: COPY has no flag --form",
        "  4 |   COPY --form=b  c /d",
        "    |        ^^^^^^",
    ]
    assert error.hint == "did you mean --from?"


def test_all_lines_of_an_instruction_are_shown() -> None:
    error = error_of(
        "FROM a\nRUN --mount=type=cache,target=/x \\\n # c\n    --netwrok=none \\\n  b\n"
    )
    assert error.message.splitlines() == [
        "Dockerfile:2: RUN has no flag --netwrok",
        "  2 | RUN --mount=type=cache,target=/x \\",
        "  3 |  # c",
        "  4 |     --netwrok=none \\",
        "    |     ^^^^^^^^^",
        "  5 |   b",
    ]


def test_of_long_instructions_the_part_around_the_mistake_is_shown() -> None:
    lines = [f"  a{number}=1 \\" for number in range(40)]
    text = "FROM a\nENV b=1 \\\n" + "\n".join(lines) + "\n  wrong c=2\n"
    shown = error_of(text).message.splitlines()
    assert len(shown) == 9
    assert shown[-2].endswith("| " + "  wrong c=2")
    assert shown[-1].endswith("|   ^^^^^")


def test_a_terminal_does_nothing_on_an_error() -> None:
    message = error_of("FROM a\nRNU\x1b[31m\t\u202ex").message
    assert "\x1b" not in message
    assert "\u202e" not in message


@pytest.mark.parametrize(
    ("text", "reason", "at", "hint"),
    [
        # The file.
        ("", "no FROM", "", "FROM scratch"),
        ("# only\n", "no FROM", "", ""),
        ("ARG a=1\n", "no FROM", "", ""),
        ("RUN x\nFROM a", "RUN before the first FROM", "RUN", "only ARG"),
        ("ENV a=b\nFROM a", "ENV before the first FROM", "ENV", ""),
        # Words.
        ("FROM a\nRNU x", "unknown instruction 'RNU'", "RNU", "did you mean RUN?"),
        ("FROM a\nENTRYPIONT x", "unknown instruction", "ENTRYPIONT", "mean ENTRYPOINT?"),
        ("FROM a\nexpos 80", "unknown instruction 'expos'", "expos", "mean EXPOSE?"),
        ("FROM a\napt-get install x", "unknown instruction 'apt-get'", "apt-get", "begin with #"),
        ("FROM a\nRUN cat<<E\nx\nE", "unknown instruction 'x'", "x", "<<NAME"),
        ("// syntax", "unknown instruction '//'", "//", ""),
        # FROM.
        ("FROM", "FROM needs an image", "FROM", "FROM alpine"),
        ("FROM a b", "FROM takes an image", "b", "AS build"),
        ("FROM a AS", "FROM takes an image", "AS", ""),
        ("FROM a AS b c", "FROM takes an image", "AS", ""),
        ("FROM a IS b", "FROM takes an image", "IS", ""),
        ("FROM a AS 1b", "'1b' is no name for a stage", "1b", "begins with a letter"),
        ("FROM a AS b/c", "'b/c' is no name for a stage", "b/c", ""),
        ("FROM a AS -b", "'-b' is no name for a stage", "-b", ""),
        ("FROM --platfrom=x a", "FROM has no flag --platfrom", "--platfrom", "mean --platform?"),
        ("FROM --platform a", "FROM: --platform needs a value", "--platform", "--platform=VALUE"),
        # Missing arguments.
        *(
            (f"FROM a\n{word}", f"{word} needs", word, f"e.g. {word}")
            for word in _WORDS
        ),
        ("FROM a\nRUN --network=none", "RUN needs a command", "RUN", ""),
        # Flags.
        ("FROM a\nENV --x a=b", "ENV has no flag --x", "--x", "ENV has no flags"),
        ("FROM a\nCMD --x a", "CMD has no flag --x", "--x", ""),
        ("FROM a\nUSER --x a", "USER has no flag --x", "--x", ""),
        ("FROM a\nADD --from=x a b", "ADD has no flag --from", "--from", "--chown"),
        ("FROM a\nCOPY --checksum=x a b", "COPY has no flag --checksum", "--checksum", ""),
        ("FROM a\nCOPY --From=x a b", "COPY has no flag --From", "--From", "mean --from?"),
        ("FROM a\nCOPY --chown a b", "COPY: --chown needs a value", "--chown", "--chown=VALUE"),
        ("FROM a\nCOPY --chown=1 --chown=2 a b", "--chown twice", "--chown", ""),
        ("FROM a\nCOPY --link=maybe a b", "neither true nor false", "--link", ""),
        ("FROM a\nCOPY --from=$X a b", "--from takes no variables", "--from=$X", "name a stage"),
        ("FROM a\nONBUILD --x RUN y", "ONBUILD has no flag --x", "--x", ""),
        ("FROM a\nRUN --network=bridge x", "unknown --network=bridge", "--network=bridge", "none"),
        ("FROM a\nRUN --security=x x", "unknown --security=x", "--security=x", "insecure"),
        ("FROM a\nRUN --device= x", "--device needs a name", "", "gpu"),
        ("FROM a\nRUN --device=a,b x", "unknown key 'b'", "b", "required"),
        # Mounts.
        ("FROM a\nRUN --mount=type=cach,target=/x y", "unknown type 'cach'", "type=cach", "cache?"),
        ("FROM a\nRUN --mount=type=nfs,target=/x y", "unknown type 'nfs'", "type=nfs", "bind"),
        ("FROM a\nRUN --mount=tarjet=/x y", "unknown key 'tarjet'", "tarjet=/x", "mean target?"),
        ("FROM a\nRUN --mount=target y", "target needs a value", "target", "target=VALUE"),
        ("FROM a\nRUN --mount=type=bind y", "type=bind needs target=", "type=bind", ""),
        ("FROM a\nRUN --mount=type=cache y", "type=cache needs target=", "", ""),
        ("FROM a\nRUN --mount=type=tmpfs y", "type=tmpfs needs target=", "", ""),
        ("FROM a\nRUN --mount=from=$X,target=/x y", "from takes no variables", "from=$X", "stage"),
        ("FROM a\nRUN --mount=target=/x,size=1 y", "size is not for type=bind", "size", ""),
        ("FROM a\nRUN --mount=target=/x,required y", "required is not for type=bind", "", ""),
        ("FROM a\nRUN --mount=target=/x,sharing=shared y", "sharing is not for", "sharing", ""),
        ("FROM a\nRUN --mount=target=/x,mode=0 y", "mode is not for type=bind", "mode", ""),
        ("FROM a\nRUN --mount=target=/x,env=A y", "env is not for type=bind", "env", ""),
        ("FROM a\nRUN --mount=type=cache,target=/x,sharing=share y", "unknown sharing",
         "sharing=share", "mean shared?"),
        ("FROM a\nRUN --mount=type=cache,target=/x,mode=9 y", "not an octal mode", "mode=9", ""),
        ("FROM a\nRUN --mount=type=cache,target=/x,uid=-1 y", "not a number", "uid=-1", ""),
        ("FROM a\nRUN --mount=type=cache,target=/x,gid=4294967296 y", "not a number", "gid=", ""),
        (f"FROM a\nRUN --mount=type=cache,target=/x,uid={'1' * 5000} y", "not a number", "", ""),
        ("FROM a\nRUN --mount=type=tmpfs,target=/x,size=big y", "not a size", "size=big", "64m"),
        ("FROM a\nRUN --mount=target=/x,ro=maybe y", "neither true nor false", "", ""),
        ("FROM a\nRUN --mount=type=secret y", "needs id= or target=", "type=secret", ""),
        ("FROM a\nRUN --mount=type=secret,from=b,id=c y", "from is not for type=secret", "", ""),
        ("FROM a\nRUN --mount=type=secret,id=a,source=b y", "not both", "", ""),
        # Lists.
        ("FROM a\nCMD [1]", "strings only", "[1]", "program"),
        ('FROM a\nRUN ["a", null]', "strings only", "", ""),
        ("FROM a\nRUN []", "starts nothing", "[]", ""),
        ("FROM a\nSHELL /bin/sh -c", "SHELL takes a JSON list", "/bin/sh -c", "/bin/bash"),
        ("FROM a\nSHELL []", "SHELL takes a JSON list", "[]", ""),
        ("FROM a\nVOLUME []", "VOLUME needs a path", "[]", ""),
        ('FROM a\nVOLUME [" "]', "VOLUME needs a path", "", ""),
        # Copies.
        ("FROM a\nCOPY a", "needs a source and a destination", "a", "COPY file"),
        ('FROM a\nADD ["a"]', "needs a source and a destination", '["a"]', ""),
        ("FROM a\nCOPY a <<E\nx\nE", "cannot write to a heredoc", "<<E", ""),
        ("FROM a\nCOPY <<E\nx\nE", "needs a source and a destination", "<<E", ""),
        # Pairs.
        ("FROM a\nENV a", "'a' has no value", "a", "ENV a=value"),
        ("FROM a\nENV =a", "not key=value", "=a", ""),
        ("FROM a\nENV a=b c", "'c' is not key=value", "c", "quotes"),
        ("FROM a\nLABEL a=b c d=e", "'c' is not key=value", "c", ""),
        ("FROM a\nARG =a", "no name before =", "=a", ""),
        # Health checks.
        ("FROM a\nHEALTHCHECK x", "unknown type 'x'", "x", "CMD or NONE"),
        ("FROM a\nHEALTHCHECK CMD", "needs a command", "CMD", ""),
        ("FROM a\nHEALTHCHECK CMD []", "needs a command", "CMD", ""),
        ("FROM a\nHEALTHCHECK NONE x", "NONE takes nothing", "x", ""),
        ("FROM a\nHEALTHCHECK --retries=1 NONE", "NONE takes nothing", "--", ""),
        ("FROM a\nHEALTHCHECK --interval=5 CMD x", "no duration", "--interval", "30s"),
        ("FROM a\nHEALTHCHECK --interval=5d CMD x", "no duration", "--interval", ""),
        ("FROM a\nHEALTHCHECK --interval=-5s CMD x", "no duration", "--interval", ""),
        ("FROM a\nHEALTHCHECK --timeout=1us CMD x", "the least is 1ms", "--timeout", ""),
        ("FROM a\nHEALTHCHECK --retries=x CMD y", "not a count", "--retries", ""),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD y", "not a count", "--retries", ""),
        # Triggers.
        ("FROM a\nONBUILD ONBUILD RUN x", "cannot have ONBUILD", "ONBUILD RUN", ""),
        ("FROM a\nONBUILD from b", "cannot have FROM", "from b", ""),
        ("FROM a\nONBUILD MAINTAINER b", "cannot have MAINTAINER", "", ""),
        ("FROM a\nONBUILD RNU x", "unknown instruction 'RNU'", "RNU", "mean RUN?"),
        ("FROM a\nONBUILD COPY a", "COPY needs a source", "", ""),
    ],
)  # fmt: skip
def test_what_is_said(text: str, reason: str, at: str, hint: str) -> None:
    error = error_of(text)
    assert reason in error.reason
    assert hint in error.hint
    if at:
        shown = error.message.splitlines()
        (caret,) = (number for number, line in enumerate(shown) if set(line) <= set(" |^"))
        marked = shown[caret - 1][shown[caret].index("^") :]
        assert marked.startswith(at) or at.startswith(marked)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('ENV a="${b:?say which}"', "b: say which"),
        ("WORKDIR ${", "bad substitution"),
        ("USER 'x", "no closing '"),
        ('COPY "a b" /x', 'no closing "'),
        ("RUN --mount=type=$T,target=/x y", "unknown type"),
        ("RUN --mount=type=cache,target=$T y", "needs target="),
        ("RUN --mount=type=cache,target=/x,uid=$T y", "not a number"),
        ("COPY <<E /x\n${}\nE", "bad substitution"),
        ("VOLUME /a $T", "'$T' is empty"),
        ("ENV $T=1", "'$T' is empty"),
        ("LABEL a=1 ''=2", "is empty"),
        ("STOPSIGNAL SIGNOPE", "invalid signal: SIGNOPE"),
        ("STOPSIGNAL 0", "invalid signal: 0"),
        ("STOPSIGNAL $T", "invalid signal"),
        ("EXPOSE http", "not a port"),
        ("EXPOSE 80 0", "not a port"),
        ("EXPOSE 65536", "not a port"),
        ("EXPOSE 90-80", "not a range"),
        ("EXPOSE 80-", "not a port"),
        ("EXPOSE 80/icmp", "'icmp' is no protocol"),
        ("EXPOSE x:80", "not a port"),
        ("EXPOSE x:80:80", "'x' is no address"),
        ("EXPOSE 80-81:80-82", "differ in length"),
    ],
)
def test_what_only_the_values_tell(text: str, reason: str) -> None:
    instruction = parse(f"FROM a\n{text}").stages[0].instructions[0]
    with pytest.raises(DockerfileError) as caught:
        instructions.resolve(instruction, {"T": ""})
    assert reason in caught.value.reason
    assert caught.value.message.startswith("Dockerfile:2: ")
    assert "^" in caught.value.message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty instruction"),
        ("# x", "empty instruction"),
        ("RUN x\nRUN y", "2 instructions"),
        ("FROM x", "FROM is not possible"),
        ("RUN <<E\nx", "unterminated"),
        ("NO x", "unknown instruction"),
    ],
)
def test_one_instruction_and_no_more(text: str, reason: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse_one(text, "ONBUILD of image")
    assert reason in caught.value.message
    assert "ONBUILD of image" in caught.value.message


@pytest.mark.parametrize(
    ("syntax", "is_foreign"),
    [
        ("docker/dockerfile:1", False),
        ("docker/dockerfile:1.7-labs", False),
        ("docker/dockerfile-upstream:master", False),
        ("mirror.example:5000/docker/dockerfile@sha256:00", False),
        ("dockerfile", False),
        ("example/other-language:1", True),
        ("r2d4/mockerfile", True),
    ],
)
def test_files_in_other_languages(syntax: str, is_foreign: bool) -> None:
    error = error_of(f"# syntax={syntax}\napiVersion: v1\n")
    assert (syntax in error.hint) == is_foreign


def test_errors_of_later_steps_have_the_same_shape() -> None:
    file = parse("FROM a\nCOPY b /c\n", "x/Containerfile")
    where = file.stages[0].instructions[0].location
    error = file.error("no such file", where, at="b", hint="make it")
    assert error.message.splitlines() == [
        "x/Containerfile:2: no such file",
        "  2 | COPY b /c",
        "    |      ^",
    ]
    assert error.hint == "make it"
    assert file.error("x", Location(name="y")).message.startswith("y: x")


@pytest.mark.parametrize(
    ("word", "known", "nearest"),
    [
        ("COPPY", ("COPY", "ADD"), "COPY"),
        ("RNU", ("ENV", "RUN"), "RUN"),
        ("cop", ("COPY",), "COPY"),
        ("Copy", ("COPY",), "COPY"),
        ("PAHT", ("PATH", "PWD"), "PATH"),
        ("heltchek", ("HEALTHCHECK", "HEALTCHECK"), "HEALTCHECK"),
        ("heltchek", ("HEALTHCHECK",), ""),
        ("A", ("B",), ""),
        ("AB", ("AC",), "AC"),
        ("zzz", ("COPY", "ADD"), ""),
        ("x", (), ""),
        ("", ("a",), ""),
    ],
)
def test_suggestions(word: str, known: tuple[str, ...], nearest: str) -> None:
    assert suggest(word, known) == (f"did you mean {nearest}?" if nearest else "")


# --- whatever comes ----------------------------------------------------------

_PIECES = (
    *_WORDS, "FROM", "AS", "NONE", "#", "#", "escape=", "syntax=", "check=",
    " ", " ", " ", "\n", "\n", "\n", "\r\n", "\t", "\\", "\\\n", "`", "`\n", "'", '"', "$", "${",
    "}", ":-", ":?", "#", "%", "/", "//", "<<", "<<-", "<<E", "E\n", "[", "]", '["a"]', '["', ",",
    "--", "--mount=", "--from=", "--chmod=", "--interval=", "type=", "target=", "size=", "mode=",
    "cache", "secret", "=", "a", "b", "x:1", "80/tcp", "\x00", "\x1b", "\u2028", "é", "\ud800",
    "\udcff", "\ufeff", "1", "999999999999999999999", "{", "*", "?",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_parsing_raises_nothing_else(seed: int) -> None:
    """Any text is a Dockerfile or an error with a place, and so is each of its instructions."""
    chance = random.Random(seed)
    for _ in range(150):
        text = "".join(chance.choices(_PIECES, k=chance.randrange(1, 60)))
        for whole in (text, f"FROM a\n{text}", f"FROM a\nRUN {text}\nENV {text}"):
            try:
                file = parse(whole)
            except DockerfileError as error:
                assert error.reason
                continue
            for instruction in (each for stage in file.stages for each in stage.instructions):
                try:
                    instructions.resolve(instruction, {"a": "1"}, escape=file.escape)
                except DockerfileError as error:
                    assert error.location.first


@pytest.mark.parametrize("seed", range(10))
def test_damaged_files_are_errors_or_files(seed: int) -> None:
    chance = random.Random(seed)
    text = (
        "# syntax=docker/dockerfile:1\nARG V=1\nFROM --platform=$BUILDPLATFORM a:${V:-2} AS b\n"
        'RUN --mount=type=cache,target=/x,mode=0700 a && \\\n  # c\n  b "c"\n'
        "COPY --from=b --chmod=u+x <<-'E' \"a b\" /x/\n\tline $x\n\tE\n"
        'ENV A="b c" D=${E#x*} F=${G//a/b}\nHEALTHCHECK --interval=1m30s CMD ["a", "b"]\n'
    )
    for _ in range(150):
        at = chance.randrange(len(text))
        end = at + chance.randrange(1, 6)
        damaged = text[:at] + chance.choice(_PIECES) * chance.randrange(3) + text[end:]
        try:
            file = parse(damaged)
            for each in file.stages[-1].instructions:
                instructions.resolve(each, {"V": "3"})
        except DockerfileError as error:
            assert error.message.startswith("Dockerfile")

"""Instructions of a Dockerfile: what is read of them, and what their variables come to."""

from __future__ import annotations

from typing import Any

import pytest

from podpy.build import dockerfile, instructions
from podpy.build.dockerfile import Dockerfile, parse, parse_one
from podpy.build.instructions import Command, Copy, Instruction, Run
from podpy.model import HealthCheck

VALUES = {"A": "1", "B": "two words", "P": "/path", "PORTS": "80 81/udp", "E": ""}


def one(text: str, escape: str = "\\") -> Instruction:
    return parse_one(text, escape=escape)


def fields(text: str, *names: str) -> tuple[Any, ...]:
    instruction = one(text)
    return tuple(getattr(instruction, name) for name in names)


def resolved(text: str, *names: str) -> Any:
    instruction = instructions.resolve(one(text), VALUES)
    values = tuple(getattr(instruction, name) for name in names)
    return values if len(values) > 1 else values[0]


# --- files and stages --------------------------------------------------------


def stages(file: Dockerfile) -> list[tuple[str, str, str, list[str]]]:
    return [
        (stage.base, stage.platform, stage.name, [each.word for each in stage.instructions])
        for stage in file.stages
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a", [("a", "", "", [])]),
        ("from a", [("a", "", "", [])]),
        ("FROM a AS b", [("a", "", "b", [])]),
        ("FROM a as B", [("a", "", "b", [])]),
        ("FROM a As b-1_2.c", [("a", "", "b-1_2.c", [])]),
        ("FROM a:1@sha256:00", [("a:1@sha256:00", "", "", [])]),
        ("FROM --platform=linux/arm64 a", [("a", "linux/arm64", "", [])]),
        ("FROM --platform=$BUILDPLATFORM $X AS b", [("$X", "$BUILDPLATFORM", "b", [])]),
        ("FROM a\nRUN x\nrun y\ncMd z", [("a", "", "", ["RUN", "RUN", "CMD"])]),
        (
            "FROM a AS x\nRUN x\nFROM x\nCOPY --from=x a b\nFROM scratch",
            [("a", "", "x", ["RUN"]), ("x", "", "", ["COPY"]), ("scratch", "", "", [])],
        ),
    ],
)
def test_stages(text: str, expected: list[tuple[str, str, str, list[str]]]) -> None:
    file = parse(text)
    assert stages(file) == expected
    assert [stage.index for stage in file.stages] == list(range(len(expected)))


def test_arguments_before_the_first_from_are_the_file_s() -> None:
    file = parse("ARG A=1\narg B C=2\nFROM x:$A\nARG A\nARG D")
    assert [arg.pairs for arg in file.arguments] == [(("A", "1"),), (("B", None), ("C", "2"))]
    assert [each.word for each in file.stages[0].instructions] == ["ARG", "ARG"]


def test_what_a_file_says_of_itself() -> None:
    file = parse("# syntax=docker/dockerfile:1\n# escape=`\n# check=error=true\nFROM a\n", "x/F")
    assert (file.name, file.syntax, file.escape, file.check) == (
        "x/F",
        "docker/dockerfile:1",
        "`",
        "error=true",
    )
    assert file.lines[3] == "FROM a"
    assert (file.stages[0].location.first, file.stages[0].original) == (4, "FROM a")


def test_original_text_and_location() -> None:
    file = parse("FROM a\nRUN  x \\\n  # c\n  y\nCOPY <<E /x\n1\nE\n")
    first, second = file.stages[0].instructions
    assert (first.original, first.location.first, first.location.last) == ("RUN  x   y", 2, 4)
    assert (second.original, second.location.first, second.location.last) == ("COPY <<E /x", 5, 7)


# --- RUN, CMD, ENTRYPOINT, SHELL ---------------------------------------------


@pytest.mark.parametrize("word", ["RUN", "CMD", "ENTRYPOINT"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("echo $A", Command(text="echo $A")),
        ("echo  'a  b'  c", Command(text="echo  'a  b'  c")),
        ('["a", "$A"]', Command(words=("a", "$A"), exec_form=True)),
        ('[ "c:\\\\windows" ]', Command(words=("c:\\windows",), exec_form=True)),
        ("['a', 'b']", Command(text="['a', 'b']")),
        ('["a", "b"] # c', Command(text='["a", "b"] # c')),
        ('["c:\\windows"]', Command(text='["c:\\windows"]')),
        ("[ -f /x ] && y", Command(text="[ -f /x ] && y")),
        ("a \\\\ b", Command(text="a \\\\ b")),
    ],
)
def test_commands(word: str, text: str, expected: Command) -> None:
    assert fields(f"{word} {text}", "command") == (expected,)
    # Their variables are the shell's, quotes too.
    assert resolved(f"{word} {text}", "command") == expected


def test_an_empty_list_clears() -> None:
    for word in ("CMD", "ENTRYPOINT"):
        assert fields(f"{word} []", "command") == (Command(exec_form=True),)


@pytest.mark.parametrize(
    ("text", "is_document", "script"),
    [
        ("RUN a", False, "a"),
        ("RUN <<E\na\nb\nE", True, "a\nb\n"),
        ("RUN <<'E'\n$a\nE", True, "$a\n"),
        ("RUN <<-E\n\ta\n\t\tb\n c\n\tE", True, "a\nb\n c\n"),
        ("RUN <<E\n#!/bin/x\na\nE", True, "#!/bin/x\na\n"),
        ("RUN << E\na\nE", True, "a\n"),
        ("RUN <<'E F'\na\nE F", True, "a\n"),
        ("RUN <<E sh\na\nE", False, "<<E sh\na\nE"),
        ("RUN <<-E sh\n\ta\n\tE", False, "<<-E sh\n\ta\nE"),
        ("RUN <<E a && <<F b\n1\nE\n2\nF", False, "<<E a && <<F b\n1\nE\n2\nF"),
    ],
)
def test_scripts(text: str, is_document: bool, script: str) -> None:
    (command,) = fields(text, "command")
    assert command.is_document == is_document
    assert command.script == script
    # The shell expands them, a build never does.
    assert resolved(text, "command") == command


def test_shell() -> None:
    assert fields('SHELL ["/bin/bash", "-c"]', "words") == (("/bin/bash", "-c"),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN x", {}),
        ("RUN --network=none x", {"network": "none"}),
        ("RUN --network=host --security=insecure x", {"network": "host", "security": "insecure"}),
        ("RUN --security=sandbox x", {"security": "sandbox"}),
    ],
)
def test_flags_of_run(text: str, expected: dict[str, str]) -> None:
    run = one(text)
    assert isinstance(run, Run)
    assert {name: getattr(run, name) for name in ("network", "security") if getattr(run, name)} == (
        expected
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vendor.com/gpu=0", ("vendor.com/gpu=0", False)),
        ("vendor.com/gpu=*,required", ("vendor.com/gpu=*", True)),
        ("name=vendor.com/gpu,required=true", ("vendor.com/gpu", True)),
        ("class1,required=false", ("class1", False)),
        ("required,class1", ("class1", True)),
        ("/dev/fuse", ("/dev/fuse", False)),
    ],
)
def test_devices(text: str, expected: tuple[str, bool]) -> None:
    (devices,) = fields(f"RUN --device={text} x", "devices")
    assert [(device.name, device.required) for device in devices] == [expected]


# --- RUN --mount -------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/x", {"target": "/x", "readonly": True, "type": "bind"}),
        ("type=bind,source=a,target=/x", {"source": "a", "target": "/x"}),
        ("type=bind,src=a,dst=/x,rw", {"source": "a", "target": "/x", "readonly": False}),
        ("destination=/x,readwrite=true", {"target": "/x", "readonly": False}),
        ("target=/x,rw=false", {"readonly": True}),
        ("target=/x,ro", {"readonly": True}),
        ("target=/x,readonly=false", {"readonly": False}),
        ("from=build,target=/x", {"from_": "build"}),
        ("TYPE=Cache,Target=/x", {"type": "cache", "target": "/x", "readonly": False}),
        ("type=cache,target=/x,id=i,sharing=locked,mode=0700,uid=1,gid=2",
         {"id": "i", "sharing": "locked", "mode": 0o700, "uid": 1, "gid": 2}),
        ("type=cache,target=/x,ro", {"readonly": True}),
        ("type=cache,target=/x,from=s,source=y", {"from_": "s", "source": "y"}),
        ("type=tmpfs,target=/x", {"readonly": False, "size": 0}),
        ("type=tmpfs,target=/x,size=64m", {"size": 64 << 20}),
        ("type=tmpfs,target=/x,size=1.5GiB", {"size": 3 << 29}),
        ("type=tmpfs,target=/x,size=4096", {"size": 4096}),
        ("type=tmpfs,target=/x,size=2KB", {"size": 2048}),
        ("type=tmpfs,target=/x,tmpfs-size=1b", {"size": 1}),
        ("type=secret,id=a", {"id": "a", "target": "", "required": False, "readonly": True}),
        ("type=secret,id=a,target=/x,required", {"target": "/x", "required": True}),
        ("type=secret,id=a,required=false", {"required": False}),
        ("type=secret,id=a,env=X,mode=440", {"env": "X", "mode": 0o440}),
        ("type=secret,target=/x", {"target": "/x", "id": ""}),
        ("type=ssh", {"id": "", "target": "", "required": False}),
        ("type=ssh,id=a,required=true,mode=0666", {"id": "a", "required": True, "mode": 0o666}),
        # podman's words for SELinux say nothing to a mount of a build's own.
        ("target=/x,z", {"target": "/x"}),
        ("target=/x,relabel=shared,read-only", {"target": "/x", "readonly": True}),
        ("target=/x,'\"source=a,b\"'", {"source": "a,b"}),
    ],
)  # fmt: skip
def test_mounts(text: str, expected: dict[str, Any]) -> None:
    for mounts in (
        fields(f"RUN --mount={text} x", "mounts")[0],
        resolved(f"RUN --mount={text} x", "mounts"),
    ):
        (mount,) = mounts
        assert {name: getattr(mount, name) for name in expected} == expected
    assert mount.text == text or '"' in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=cache,target=$P/x", {"target": "/path/x"}),
        ("type=cache,target=/x,id=${A}-c", {"id": "1-c"}),
        ("type=cache,target=/x,uid=$A", {"uid": 1}),
        ("type=${T:-tmpfs},target=/x,size=${A}k", {"type": "tmpfs", "size": 1024}),
        ("type=cache,target=/x,sharing=${S:-private}", {"sharing": "private"}),
        ("target=/x,source=$B", {"source": "two words"}),
    ],
)
def test_variables_of_mounts(text: str, expected: dict[str, Any]) -> None:
    (mount,) = resolved(f"RUN --mount={text} x", "mounts")
    assert {name: getattr(mount, name) for name in expected} == expected


def test_several_mounts_keep_their_order() -> None:
    text = "RUN --mount=type=cache,target=/a --mount=type=tmpfs,target=/b x"
    assert [mount.target for mount in fields(text, "mounts")[0]] == ["/a", "/b"]


# --- COPY and ADD ------------------------------------------------------------


@pytest.mark.parametrize("word", ["COPY", "ADD"])
@pytest.mark.parametrize(
    ("text", "sources", "destination"),
    [
        ("a b", ("a",), "b"),
        ("a  b\tc/", ("a", "b"), "c/"),
        ('["a b", "c"]', ("a b",), "c"),
        ('["a", "b", "c/"]', ("a", "b"), "c/"),
        ("['a', 'b']", ("['a',",), "'b']"),
        ("arr[[]0].txt /x/", ("arr[[]0].txt",), "/x/"),
        ("https://x/y git@x:y.git#z:w /x/", ("https://x/y", "git@x:y.git#z:w"), "/x/"),
    ],
)
def test_sources(word: str, text: str, sources: tuple[str, ...], destination: str) -> None:
    assert fields(f"{word} {text}", "sources", "destination") == (sources, destination)


def test_flags_of_copy() -> None:
    names = ("from_", "chown", "chmod", "link", "parents", "exclude")
    assert fields("COPY a b", *names) == ("", "", "", False, False, ())
    text = "COPY --from=s --chown=a:b --chmod=u=rwX,go=rX --link --parents --exclude=*.x a b"
    assert fields(text, *names) == ("s", "a:b", "u=rwX,go=rX", True, True, ("*.x",))
    text = "COPY --link=false --parents=TRUE --exclude=a --exclude=b a b"
    assert fields(text, *names[3:]) == (False, True, ("a", "b"))


def test_flags_of_add() -> None:
    names = ("chown", "chmod", "link", "exclude", "checksum", "keep_git_dir", "unpack")
    assert fields("ADD a b", *names) == ("", "", False, (), "", None, None)
    text = "ADD --chown=1 --chmod=7 --link --exclude=x --checksum=sha256:0 --keep-git-dir --unpack"
    assert fields(f"{text} a b", *names) == ("1", "7", True, ("x",), "sha256:0", True, True)
    assert fields("ADD --keep-git-dir=false --unpack=false a b", *names[5:]) == (False, False)


@pytest.mark.parametrize(
    ("text", "sources", "bodies"),
    [
        ("COPY <<E /x\na $A\nE", (), ["a 1\n"]),
        ("COPY <<'E' /x\na $A\nE", (), ["a $A\n"]),
        ("COPY <<-E /x\n\ta $A\n\t\tb\n\tE", (), ["a 1\nb\n"]),
        ("COPY <<-'E' /x\n\ta\\\n\tE", (), ["a\\\n"]),
        ("COPY <<E <<F a /x/\n1\nE\n2\nF", ("a",), ["1\n", "2\n"]),
        ('ADD <<E /x\n"q" \\$ \\\\ \\a\nE', (), ['"q" $ \\ a\n']),
        ("COPY <<E /x\nE", (), [""]),
        ("COPY << E a /x/\n1\nE", ("a",), ["1\n"]),
        ("COPY <<'E F' b /x/\n1\nE F", ("b",), ["1\n"]),
        ("COPY <<E <<E /x/\n1\nE\n2\nE", (), ["1\n", "2\n"]),
    ],
)
def test_inline_files(text: str, sources: tuple[str, ...], bodies: list[str]) -> None:
    found, documents = resolved(text, "sources", "heredocs")
    assert found == sources
    assert [document.body for document in documents] == bodies


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("COPY $A ${P}/x", ("sources", "destination"), (("1",), "/path/x")),
        (r"COPY \$A /quux", ("sources",), ("$A",)),
        ("COPY --chown=$A:$A --chmod=$A a b", ("chown", "chmod"), ("1:1", "1")),
        ("ADD --checksum=sha256:$A a b", ("checksum",), "sha256:1"),
        ("COPY --exclude=$A a b", ("exclude",), ("$A",)),
        ("COPY $B x", ("sources",), ("two words",)),
        ('COPY ["$B", "\'x\'"]', ("sources", "destination"), (("two words",), "x")),
    ],
)
def test_variables_of_copies(text: str, names: tuple[str, ...], expected: Any) -> None:
    assert resolved(text, *names) == expected


# --- ENV, LABEL, ARG ---------------------------------------------------------


@pytest.mark.parametrize("word", ["ENV", "LABEL"])
@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a=b", [("a", "b")]),
        ("a=b c=d", [("a", "b"), ("c", "d")]),
        ('a="b c" d=e', [("a", "b c"), ("d", "e")]),
        ("a='b c'", [("a", "b c")]),
        (r"a=b\ c d=e", [("a", "b c"), ("d", "e")]),
        ("a=", [("a", "")]),
        ('a=""', [("a", "")]),
        ("a=b=c", [("a", "b=c")]),
        ('"com.example.vendor"="ACME Inc"', [("com.example.vendor", "ACME Inc")]),
        ("com.example/x-y.z=1", [("com.example/x-y.z", "1")]),
        (r'a="x \"y\" z"', [("a", 'x "y" z')]),
        ("a=$A b=${A}x", [("a", "1"), ("b", "1x")]),
        ("a='$A' b=\\$A", [("a", "$A"), ("b", "$A")]),
        ("a=$B", [("a", "two words")]),
        ("$A=x", [("1", "x")]),
        ('a="it\'s"', [("a", "it's")]),
        ("a=x\\\n  b=y", [("a", "x"), ("b", "y")]),
        ('a="one\\\n two"', [("a", "one two")]),
        # The old form: everything after the key.
        ("a b", [("a", "b")]),
        ("a b c  d", [("a", "b c  d")]),
        ("a   b", [("a", "b")]),
        ("ONE TWO= THREE=world", [("ONE", "TWO= THREE=world")]),
        ('a "b c"', [("a", "b c")]),
        ("a $A/x", [("a", "1/x")]),
        ("a\tb", [("a", "b")]),
    ],
)
def test_pairs(word: str, text: str, pairs: list[tuple[str, str]]) -> None:
    assert list(resolved(f"{word} {text}", "pairs")) == pairs


def test_the_old_form_is_told() -> None:
    assert fields("ENV a b", "legacy") == (True,)
    assert fields("ENV a=b", "legacy") == (False,)


def test_one_instruction_sees_one_state() -> None:
    """The reference's example: def becomes hello, not bye."""
    made = instructions.resolve(one("ENV abc=bye def=$abc"), {"abc": "hello"})
    assert getattr(made, "pairs") == (("abc", "bye"), ("def", "hello"))  # noqa: B009


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a", [("a", None)]),
        ("a=", [("a", "")]),
        ("a=b", [("a", "b")]),
        ('a="b c" d e=f', [("a", "b c"), ("d", None), ("e", "f")]),
        ("a=$A", [("a", "1")]),
        ("a=${Z:-x}", [("a", "x")]),
        ("a=b=c", [("a", "b=c")]),
    ],
)
def test_arguments(text: str, pairs: list[tuple[str, str | None]]) -> None:
    assert list(resolved(f"ARG {text}", "pairs")) == pairs


# --- the rest ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("EXPOSE 80", "ports", ("80",)),
        ("EXPOSE 80/tcp 81-83/udp", "ports", ("80/tcp", "81-83/udp")),
        ("EXPOSE $A $PORTS", "ports", ("1", "80", "81/udp")),
        ("EXPOSE $E", "ports", ()),
        ("VOLUME /a", "paths", ("/a",)),
        ("VOLUME /a /b", "paths", ("/a", "/b")),
        ('VOLUME ["/a b", "/c"]', "paths", ("/a b", "/c")),
        ('VOLUME [" /a "]', "paths", ("/a",)),
        ("VOLUME $P ${P}/x", "paths", ("/path", "/path/x")),
        ("USER a", "user", "a"),
        ("USER a:b", "user", "a:b"),
        ("USER $A:${A}", "user", "1:1"),
        ("USER ${username:-some_user}", "user", "some_user"),
        ("WORKDIR /a", "path", "/a"),
        ("WORKDIR /a b", "path", "/a b"),
        ('WORKDIR "/a b"', "path", "/a b"),
        ("WORKDIR $P/$DIRNAME", "path", "/path/"),
        ("STOPSIGNAL SIGINT", "signal", "SIGINT"),
        ("STOPSIGNAL ${S:-9}", "signal", "9"),
        ("MAINTAINER A <a@b> $A", "text", "A <a@b> $A"),
        ('SHELL ["$A"]', "words", ("$A",)),
        ("ONBUILD RUN x $A", "text", "RUN x $A"),
        ("onbuild  run  x", "text", "run  x"),
        ("ONBUILD COPY --from=b a /", "text", "COPY --from=b a /"),
        ("ONBUILD RUN <<E\nx\nE", "text", "RUN <<E\nx\nE"),
        ("ONBUILD COPY <<E <<F /x/\n1\nE\n2\nF", "text", "COPY <<E <<F /x/\n1\nE\n2\nF"),
        ("ONBUILD ENV a=$A", "text", "ENV a=$A"),
    ],
)
def test_the_others(text: str, name: str, expected: Any) -> None:
    assert resolved(text, name) == expected


def test_a_trigger_can_be_read_again() -> None:
    for text in ("ONBUILD RUN <<E\nx\nE", "ONBUILD COPY <<E <<-F /x/\n1\nE\n\t2\nF"):
        inner = parse_one(fields(text, "text")[0])
        assert isinstance(inner, (Run, Copy))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NONE", None),
        ("none", None),
        ("CMD curl -f http://x/ || exit 1", ("CMD-SHELL", "curl -f http://x/ || exit 1")),
        ('CMD ["a", "b"]', ("CMD", "a", "b")),
        ("cmd $A", ("CMD-SHELL", "$A")),
        ("CMD ['a']", ("CMD-SHELL", "['a']")),
    ],
)
def test_health_checks(text: str, expected: tuple[str, ...] | None) -> None:
    check = resolved(f"HEALTHCHECK {text}", "check")
    assert (check and check.test) == expected


def test_flags_of_health_checks() -> None:
    text = (
        "HEALTHCHECK --interval=5m --timeout=1m30s --start-period=500ms --start-interval=1.5s"
        " --retries=7 CMD x"
    )
    expected = HealthCheck(
        test=("CMD-SHELL", "x"), interval=300.0, timeout=90.0, start_period=0.5,
        start_interval=1.5, retries=7,
    )  # fmt: skip
    assert fields(text, "check") == (expected,)
    (check,) = fields("HEALTHCHECK CMD x", "check")
    assert (check.interval, check.timeout, check.retries) == (0, 0, 0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("0s", 0), ("1ms", 0.001), ("2h", 7200), ("1h2m3s", 3723), (".5s", 0.5),
     ("+1s", 1), ("1500us", 0.0015), ("1500µs", 0.0015), ("1000000ns", 0.001)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    (check,) = fields(f"HEALTHCHECK --interval={text} CMD x", "check")
    assert check.interval == pytest.approx(seconds)


def test_the_escape_character_of_the_file_counts_everywhere() -> None:
    file = dockerfile.parse("# escape=`\nFROM a\nENV x=a`\n b=`$A c=c:\\d\nCOPY c:\\a `$A\n")
    env, copy = (
        instructions.resolve(each, VALUES, escape=file.escape)
        for each in file.stages[0].instructions
    )
    assert getattr(env, "pairs") == (("x", "a"), ("b", "$A"), ("c", "c:\\d"))  # noqa: B009
    assert isinstance(copy, Copy)
    assert (copy.sources, copy.destination) == (("c:\\a",), "$A")


def test_resolving_leaves_the_instruction_as_it_was() -> None:
    before = one("ENV a=$A")
    after = instructions.resolve(before, VALUES)
    assert before == one("ENV a=$A") != after
    assert (after.location, after.original) == (before.location, before.original)

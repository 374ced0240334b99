"""The language of Dockerfiles from file to image, and mistakes in it as a user sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.podpy import BUSYBOX, Podpy

WHOLE = f"""\
\ufeff# syntax=docker/dockerfile:1
# check=error=true
ARG TAG=latest

FROM {BUSYBOX} AS base
ARG NAME="big world"
ENV A=1 \\
    # what follows has a default
    B="x ${{NAME:-small}}" C='$A'

WORKDIR /w
COPY <<-"RAW" << EXPANDED /files/
\traw $A \\$
\tRAW
"$A" \\$A ${{NAME%% *}}
EXPANDED
RUN <<SCRIPT
echo "$A-$B-$C" > out
SCRIPT
RUN cat <<ONE > /one && cat <<-'TWO' > /two
$A
ONE
\t$A
\tTWO
RUN <<PROGRAM
#!/bin/cat
line
PROGRAM

FROM base
ONBUILD RUN <<LATER
echo "later $A" > /later
LATER
CMD ["cat", "/w/out", "/files/RAW", "/files/EXPANDED", "/one", "/two"]
"""


def context(podpy: Podpy, text: str) -> Path:
    path = podpy.directory / "context"
    path.mkdir(exist_ok=True)
    (path / "Dockerfile").write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["unix", "windows"])
def test_a_file_with_everything(podpy: Podpy, ends: str) -> None:
    # A document keeps its line ends, and a shell takes those of Windows for words.
    text = WHOLE if ends == "\n" else WHOLE[: WHOLE.index("WORKDIR")].replace("\n", ends)
    podpy("build", "-t", "made", context(podpy, text))
    config = podpy("image", "inspect", "made").json()[0]["Config"]
    assert [one for one in config["Env"] if not one.startswith("PATH=")] == [
        "A=1",
        "B=x big world",
        "C=$A",
    ]
    if ends == "\n":
        done = podpy("run", "--rm", "--network=none", "made")
        assert done.stdout == '1-x big world-$A\nraw $A \\$\n"1" $A big\n1\n$A\n'
        podpy("build", "-t", "child", context(podpy, "FROM made\n"))
        done = podpy("run", "--rm", "--network=none", "child", "cat", "/later")
        assert done.stdout == "later 1\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            f"FROM {BUSYBOX}\n\nCOPY --form=x \\\n  a b\n",
            [
                ":3: COPY has no flag --form",
                "  3 | COPY --form=x \\",
                "    |      ^^^^^^",
                "  4 |   a b",
                "hint: did you mean --from?",
            ],
        ),
        (
            f'FROM {BUSYBOX}\nENV A="${{B:?say which}}"\n',
            [
                ":2: B: say which",
                '  2 | ENV A="${B:?say which}"',
                "    |        " + "^" * len("${B:?say which}"),
            ],
        ),
        (
            f"FROM {BUSYBOX}\nEXPOSE 80 http\n",
            [":2: EXPOSE http: not a port", "    |           ^^^^"],
        ),
        (f"FROM {BUSYBOX}\nRUN <<E\nx\n", [":2: unterminated heredoc", "nothing but E ends it"]),
        ("FROM scratch\nLABEL a=\udcff \x1b[31m\n", [":2: LABEL: '\\x1b[31m' is not key=value"]),
    ],
)
def test_mistakes(podpy: Podpy, text: str, said: list[str]) -> None:
    done = podpy("build", context(podpy, text), code=125)
    for line in said:
        assert line in done.stderr
    assert "\x1b" not in done.stderr


def test_variables_of_a_base_image_that_is_here_are_known(podpy: Podpy) -> None:
    podpy("build", "-t", "withenv", context(podpy, f"FROM {BUSYBOX}\nENV HERE=/\n"))
    source = context(podpy, "FROM withenv\nCOPY $HERE $THERE /x/\n")
    done = podpy("build", "--check", source, code=1)
    assert "variable 'THERE' is not defined" in done.stdout
    assert "'HERE'" not in done.stdout
    source = context(podpy, "FROM not.here/image\nCOPY $HERE $THERE /x/\n")
    assert podpy("build", "--check", source).text == "Check complete, no warnings found."


def test_a_file_can_ask_to_fail_for_warnings(podpy: Podpy) -> None:
    text = f"FROM {BUSYBOX}\nENV A b\n"
    done = podpy("build", context(podpy, text))
    assert "LegacyKeyValueFormat" in done.stderr
    done = podpy("build", context(podpy, f"# check=error=true\n{text}"), code=125)
    assert "lint violation found for rules: LegacyKeyValueFormat" in done.stderr
    podpy("build", context(podpy, f"# check=skip=LegacyKeyValueFormat;error=true\n{text}"))
    setting = "BUILDKIT_DOCKERFILE_CHECK=skip=all"
    podpy("build", "--build-arg", setting, context(podpy, f"# check=error=true\n{text}"))

"""Where podpy does on purpose what buildah 1.28 does not: each with the reason.

docker's Dockerfile reference decides; where it says nothing, what BuildKit does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

EVERY = ".*"


@dataclass(frozen=True)
class Expected:
    """A difference that may be there; ``case`` is a pattern, ``text`` one of how it begins."""

    case: str
    text: str
    reason: str


EXPECTED = (
    # --- what a RUN leaves ---
    Expected(
        EVERY,
        r"tree: .* xattrs {}, theirs {('user.overlay.(impure|origin)': '.?'(, )?)+}",
        "overlayfs' own notes that a directory was copied up: buildah leaves them in the layer",
    ),
    Expected(
        EVERY,
        r"tree: (etc/(hosts|hostname|resolv\.conf)|run) only theirs",
        "what a RUN gets mounted needs a file to lie on; podpy takes it away again, as BuildKit",
    ),
    Expected(
        EVERY,
        r"tree: etc directory time \d+, theirs now",
        "the same files: making them changed their directory",
    ),
    Expected(
        "user-of-base-is-kept",
        r"tree: base-volume only theirs",
        "buildah makes the directories of volumes for every RUN; BuildKit leaves the image alone",
    ),
    # --- COPY and ADD ---
    Expected(
        EVERY,
        r"tree: .* directory time \d+, theirs now",
        "a directory that COPY makes of one of the context gets that one's time, as all below it "
        "does; buildah gives the topmost the time of the copy",
    ),
    Expected(
        "copy-setuid|copy-directory-modes|chown-keeps-setuid-of-copied",
        r"tree: \S+ mode [246]\d\d\d, theirs 0\d\d\d",
        "modes are copied whole; buildah takes the set-id bits off the context's files",
    ),
    Expected(
        "copy-file-over-symlink",
        r"tree: (real|real/old|real/old-too|to-file) ",
        "a destination is resolved, links and all, as BuildKit does; buildah replaces the link",
    ),
    Expected(
        "add-tar-chown",
        r"tree: x\S* owner ",
        "--chown is for what the archive holds; buildah 1.28 gives it to the rest alone: "
        "directories that the archive only implies",
    ),
    # --- WORKDIR ---
    Expected(
        EVERY,
        r"config: WorkingDir '/', theirs None",
        "BuildKit writes down where a container without a WORKDIR starts",
    ),
    Expected(
        "workdir-.*|env-in-workdir|arg-used-in-user-and-workdir|config-of-everything",
        r"tree: .* only ours",
        "'If the WORKDIR doesn't exist, it will be created': buildah makes it when a RUN follows",
    ),
    Expected(
        "(?!workdir-root).*",
        r"history: .*WORKDIR( .*)?, theirs .*WORKDIR-",
        "the directory that it makes is a layer, as BuildKit has it; buildah puts it in the next",
    ),
    Expected(
        "workdir-slashes",
        r"config: WorkingDir '/a/b', theirs '//a//b/?'",
        "BuildKit cleans the path",
    ),
    Expected(
        "workdir-of-base",
        r"tree: home/alice directory time now, theirs \d+",
        "the directory was made in it",
    ),
    Expected(
        "workdir-of-base-used",
        r"tree: .* only theirs",
        "newer buildah makes the base's WORKDIR in every image that goes on from it",
    ),
    # --- variables ---
    Expected(
        "env-option",
        r"(config: Env|history: ENV- COPY, theirs ENV- ENV- COPY)",
        "newer buildah applies --env before the first instruction, older and podpy after the last",
    ),
    Expected(
        "label-by-option",
        r"history: LABEL- COPY, theirs LABEL- COPY LABEL-",
        "newer buildah writes --label into the history; docker does not",
    ),
    Expected(
        "arg-inherited-by-child-stage",
        r"tree: b content 'x1\\n', theirs 'x\\n'",
        "docker, 'Build variables': a stage's arguments are 'inherited by child stages'",
    ),
    # --- the configuration ---
    Expected(
        "shell-.*",
        r"config: (Cmd|Entrypoint) \['/(bin/)?(own|busybox)'.*, theirs \['/bin/sh', '-c'",
        "SHELL is for 'the shell form of commands', CMD and ENTRYPOINT among them",
    ),
    Expected(
        "expose-(range|upper-case)",
        r"config: ExposedPorts ",
        "BuildKit writes each port of a range, and protocols in lower case: what -P can publish",
    ),
    Expected(
        "label-by-option",
        r"history: LABEL- COPY, theirs LABEL- COPY LABEL- LABEL-",
        "labels given by option are in no instruction; BuildKit has no history of them",
    ),
    # --- the language ---
    Expected(
        "parse-escape-backtick.*",
        r"config: Env .*, theirs ",
        "where the backtick escapes, the backslash is a character; buildah still drops it",
    ),
    Expected(
        "parse-json-broken-is-shell",
        r"tree: (x only theirs|y only ours)",
        "what is no JSON array is the shell form; buildah takes the array's beginning",
    ),
    # --- ignore files ---
    Expected(
        "ignore-bind-mount",
        r"tree: out/.* only theirs",
        "the context has no ignored files, whoever reads it; buildah mounts the directory",
    ),
)


def unexplained(case: str, found: list[str]) -> list[str]:
    """The differences that no entry of the table explains."""
    rows = [row for row in EXPECTED if re.fullmatch(row.case, case)]
    return [text for text in found if not any(re.match(row.text, text) for row in rows)]

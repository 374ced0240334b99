"""Ignore files: Go's patterns, negation, order, and where they are looked for."""

from support.dockerfiles import Case, case

TREE = {
    "a.txt": "a", "b.md": "b", "README.md": "r", "dir/a.txt": "da", "dir/b.md": "db",
    "dir/sub/a.txt": "dsa", "dir/sub/deep/c": "c", "other/a.txt": "oa", ".hidden": "h",
    "node_modules/x/y": "y", "src/node_modules/z": "z", "tmp1/f": "f", "tmp22/f": "f",
}  # fmt: skip


def ignore(
    name: str, *patterns: str, copy: str = "COPY . /c/", file: str = ".dockerignore"
) -> Case:
    files = {**TREE, file: "".join(pattern + "\n" for pattern in patterns)}
    return case(f"ignore-{name}", "FROM scratch", copy, files=files)


CASES = (
    ignore("file", "a.txt"),
    ignore("nothing"),
    ignore("comments-and-blank-lines", "# a.txt", "", "  ", "b.md"),
    ignore("leading-slash", "/a.txt"),
    ignore("directory", "dir"),
    ignore("directory-slash", "dir/"),
    ignore("star", "*.md"),
    ignore("star-in-directory", "*/a.txt"),
    ignore("double-star", "**/a.txt"),
    ignore("double-star-directory", "**/node_modules"),
    ignore("double-star-end", "dir/**"),
    ignore("double-star-middle", "dir/**/a.txt"),
    ignore("question-mark", "tmp?"),
    ignore("class", "tmp[1-9]"),
    ignore("everything", "*"),
    ignore("everything-but", "*", "!a.txt"),
    ignore("everything-but-in-directory", "*", "!dir/sub"),
    ignore("negation", "*.md", "!README.md"),
    ignore("negation-order", "*.md", "!README.md", "README*"),
    ignore("negation-inside-ignored-directory", "dir", "!dir/b.md"),
    ignore("negation-double-star", "**/*.txt", "!**/sub/*.txt"),
    ignore("dot-dot-and-dots", "./a.txt", "dir/../b.md"),
    ignore("dockerfile-and-itself", "Dockerfile", ".dockerignore"),
    ignore("hidden", ".*"),
    ignore("spaces-around", "  a.txt  "),
    ignore("copy-of-parent-of-ignored", "dir/sub", copy="COPY dir /d"),
    ignore("wildcard-source", "b.md", copy="COPY *.md a.txt /d/"),
    ignore("containerignore", "b.md", file=".containerignore"),
    case("ignore-containerignore-wins", "FROM scratch", "COPY . /c/",
         files={**TREE, ".containerignore": "b.md\n", ".dockerignore": "a.txt\n"}),
    case("ignore-option", "FROM scratch", "COPY . /c/", files={**TREE, "list": "b.md\n"},
         options=("--ignorefile", "{context}/list")),
    case("ignore-bind-mount", "FROM localhost/busybox",
         "RUN --mount=type=bind,target=/in cp -r /in /out",
         files={**TREE, ".dockerignore": "dir\n*.md\n"}),
    case("ignore-does-not-touch-stages", "FROM scratch AS one", "COPY . /c/", "FROM scratch",
         "COPY --from=one /c/dir/a.txt /", files={**TREE, ".dockerignore": "other\n"}),
)  # fmt: skip

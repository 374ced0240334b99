"""The language: directives, comments, continuation, where the file is."""

from support.dockerfiles import Case, case

SCRATCH = "FROM scratch"
BUSYBOX = "FROM localhost/busybox"
F = {"f": "f", "g": "g"}

CASES = (
    case("parse-comments", "# first", SCRATCH, "# second", "COPY f /", "   # third", files=F),
    case("parse-blank-lines", "", "", SCRATCH, "", "COPY f /", "", files=F),
    case("parse-indented", "  FROM scratch", "\tCOPY f /", files=F),
    case("parse-escape-backtick", "# escape=`", SCRATCH, "ENV A=1 `", "  B=c:\\dir\\", files=F),
    case("parse-escape-backtick-dollar", "# escape=`", SCRATCH, "ENV A=1 B=`$A C=\\x"),
    case("parse-syntax-directive", "# syntax=docker/dockerfile:1", SCRATCH, "COPY f /", files=F),
    case("parse-directive-after-comment-is-comment", "# just text", "# escape=`", SCRATCH,
         "ENV A=1 \\", "  B=2"),
    case("parse-continuation-at-comment", BUSYBOX, "RUN echo a \\", "# comment", "   b >/x"),
    case("parse-continuation-with-blank-line", BUSYBOX, "RUN echo a \\", "", "   b >/x"),
    case("parse-continuation-trailing-space", BUSYBOX, "RUN echo a \\  ", "   b >/x"),
    case("parse-hash-inside-run", BUSYBOX, "RUN echo a # b >/x; echo c >/y"),
    case("parse-hash-in-words", BUSYBOX, "RUN echo 'a#b' >/x"),
    Case("parse-crlf", "FROM scratch\r\nENV A=b\r\nCOPY f /\r\n", F),
    Case("parse-no-newline-at-end", "FROM scratch\nCOPY f /", F),
    Case("parse-bom", "\ufeffFROM scratch\nCOPY f /\n", F),
    Case("parse-tabs", "FROM\tscratch\nCOPY\tf\t/\nENV\tA=b\n", F),
    case("parse-mixed-case", "FrOm scratch As one", "cOpY f /", "FROM one", files=F),
    case("parse-flags-order", SCRATCH, "COPY --chmod=600 --chown=1:1 f /", files=F),
    case("parse-long-line", SCRATCH, "ENV " + " ".join(f"V{number}=x" for number in range(300))),
    case("parse-file-option", "FROM nothing", files={**F, "other/Mine": "FROM scratch\nCOPY g /\n"},
         options=("-f", "{context}/other/Mine")),
    case("parse-unicode", SCRATCH, 'LABEL text="größer ☃"', "ENV N=ñ"),
    case("parse-run-json-lookalike", BUSYBOX, "RUN [ -e /bin ] && touch /x"),
    case("parse-json-broken-is-shell", BUSYBOX, 'RUN ["touch", "/x"] || touch /y'),
    case("parse-semicolons", BUSYBOX, "RUN touch /a; touch /b;"),
    case("parse-dollar-dollar", BUSYBOX, "RUN echo $$ | grep -q '^[0-9]*$' && touch /x"),
    case("parse-comment-with-continuation", SCRATCH, "# comment \\", "COPY f /", files=F),
)  # fmt: skip

"""What neither of them builds."""

from support.dockerfiles import Case, case

SCRATCH = "FROM scratch"
BUSYBOX = "FROM localhost/busybox"
F = {"f": "f", "d/g": "g"}

CASES = (
    Case("refuse-empty-file", ""),
    Case("refuse-only-comments", "# nothing\n"),
    case("refuse-no-from", "RUN true"),
    case("refuse-unknown-instruction", SCRATCH, "FETCH x"),
    case("refuse-from-without-image", "FROM"),
    case("refuse-from-with-too-many-words", "FROM scratch AS"),
    case("refuse-missing-image", "FROM localhost/no-such-image:never"),
    case("refuse-missing-source", SCRATCH, "COPY nothing /", files=F),
    case("refuse-missing-source-of-several", SCRATCH, "COPY f nothing /x/", files=F),
    case("refuse-copy-one-word", SCRATCH, "COPY f", files=F),
    case("refuse-copy-unknown-flag", SCRATCH, "COPY --wrong=1 f /", files=F),
    case("refuse-copy-outside-context", SCRATCH, "COPY ../../../etc/passwd /p", files=F),
    case("refuse-copy-from-missing-stage", SCRATCH, "COPY --from=nowhere.invalid/x:y /f /",
         files=F),
    case("refuse-copy-ignored", SCRATCH, "COPY f /", files={**F, ".dockerignore": "f\n"}),
    case("refuse-copy-from-later-number", SCRATCH, "COPY --from=5 /f /"),
    case("refuse-chown-unknown-name", "FROM localhost/users", "COPY --chown=carol f /", files=F),
    case("refuse-chmod-nonsense", SCRATCH, "COPY --chmod=abc f /", files=F),
    case("refuse-run-fails", BUSYBOX, "RUN exit 3"),
    case("refuse-run-not-found", BUSYBOX, 'RUN ["/no/such/program"]'),
    case("refuse-run-without-shell", SCRATCH, "RUN echo"),
    case("refuse-env-without-value", SCRATCH, "ENV A"),
    case("refuse-env-broken-quotes", SCRATCH, 'ENV A="b'),
    case("refuse-required-variable", SCRATCH, "ENV A=${B:?it is needed}"),
    case("refuse-label-without-words", SCRATCH, "LABEL"),
    case("refuse-shell-form-of-shell", SCRATCH, "SHELL /bin/sh -c"),
    case("refuse-healthcheck-unknown", SCRATCH, "HEALTHCHECK MAYBE"),
    case("refuse-healthcheck-interval", SCRATCH, "HEALTHCHECK --interval=soon CMD x"),
    case("refuse-onbuild-from", SCRATCH, "ONBUILD FROM x"),
    case("refuse-onbuild-onbuild", SCRATCH, "ONBUILD ONBUILD RUN x"),
    case("refuse-onbuild-maintainer", SCRATCH, "ONBUILD MAINTAINER x"),
    case("refuse-unknown-target", SCRATCH, "COPY f /", files=F, options=("--target", "none")),
    case("refuse-escape-nonsense", "# escape=x", SCRATCH),
    case("refuse-mount-unknown-type", BUSYBOX, "RUN --mount=type=wrong,target=/x true"),
    case("refuse-required-secret", BUSYBOX, "RUN --mount=type=secret,id=none,required=true true"),
    case("refuse-user-unknown", "FROM localhost/users", "USER carol", "RUN true"),
    case("refuse-bad-variable-name-in-braces", SCRATCH, "ENV A=${B"),
    case("refuse-volume-without-path", SCRATCH, "VOLUME"),
    case("refuse-workdir-without-path", SCRATCH, "WORKDIR"),
    case("refuse-stopsignal-nonsense", SCRATCH, "STOPSIGNAL SIGNONE"),
)  # fmt: skip

"""ARG: scopes, defaults, what is predefined, and who wins."""

from support.dockerfiles import case

SCRATCH = "FROM scratch"
BUSYBOX = "FROM localhost/busybox"


def given(*pairs: str) -> tuple[str, ...]:
    return tuple(word for pair in pairs for word in ("--build-arg", pair))


CASES = (
    case("arg-default", BUSYBOX, "ARG A=d", "RUN echo $A >/a"),
    case("arg-given", BUSYBOX, "ARG A=d", "RUN echo $A >/a", options=given("A=g")),
    case("arg-without-default", BUSYBOX, "ARG A", "RUN echo x$A >/a"),
    case("arg-without-default-given", BUSYBOX, "ARG A", "RUN echo x$A >/a", options=given("A=g")),
    case("arg-given-empty", BUSYBOX, "ARG A=d", "RUN echo x$A >/a", options=given("A=")),
    case("arg-from-environment", BUSYBOX, "ARG A=d", "RUN echo x$A >/a", options=given("A"),
         env={"A": "from the environment"}),
    case("arg-several", BUSYBOX, "ARG A=1 B=2 C", "RUN echo $A$B$C >/a", options=given("C=3")),
    case("arg-quoted", BUSYBOX, "ARG A=\"two words\"", "RUN echo \"$A\" >/a"),
    case("arg-in-later-arg", SCRATCH, "ARG A=1", "ARG B=${A}2", "LABEL b=$B"),
    case("arg-before-its-line-is-empty", SCRATCH, "LABEL a=x$A", "ARG A=1", "LABEL b=x$A",
         options=given("A=2")),
    case("arg-env-wins", BUSYBOX, "ARG A=arg", "ENV A=env", "RUN echo $A >/a",
         options=given("A=g")),
    case("arg-env-wins-earlier", BUSYBOX, "ENV A=env", "ARG A=arg", "RUN echo $A >/a",
         options=given("A=g")),
    case("arg-into-env", SCRATCH, "ARG A=1", "ENV B=${A:-2}", options=given("A=3")),
    case("arg-not-in-config", BUSYBOX, "ARG SECRET=s", "RUN test $SECRET = s"),
    case("arg-global-in-from", "ARG BASE=busybox", "FROM localhost/${BASE}", "RUN touch /x"),
    case("arg-global-in-from-given", "ARG BASE=none", "FROM localhost/$BASE", "RUN touch /x",
         options=given("BASE=busybox")),
    case("arg-global-not-in-stage", "ARG A=1", BUSYBOX, "RUN echo x$A >/a"),
    case("arg-global-redeclared", "ARG A=1", BUSYBOX, "ARG A", "RUN echo x$A >/a"),
    case("arg-global-redeclared-given", "ARG A=1", BUSYBOX, "ARG A", "RUN echo x$A >/a",
         options=given("A=2")),
    case("arg-global-redeclared-with-default", "ARG A=1", BUSYBOX, "ARG A=3", "RUN echo x$A >/a"),
    case("arg-global-refers-to-global", "ARG A=busy", "ARG B=${A}box", "FROM localhost/$B",
         "RUN touch /x"),
    case("arg-ends-with-its-stage", BUSYBOX + " AS one", "ARG A=1", "RUN echo x$A >/a",
         BUSYBOX, "RUN echo x$A >/b", "COPY --from=one /a /a"),
    case("arg-inherited-by-child-stage", BUSYBOX + " AS one", "ARG A=1", "FROM one",
         "RUN echo x$A >/b"),
    case("arg-in-copy-from", "ARG WHICH=b", "FROM scratch AS a", "COPY a /f", "FROM scratch AS b",
         "COPY b /f", SCRATCH, "COPY --from=b /f /", files={"a": "a", "b": "b"}),
    case("arg-default-modifier-in-from", "FROM localhost/${NAME:-busybox}", "RUN touch /x"),
    case("arg-predefined-proxy", BUSYBOX, "RUN echo x$HTTP_PROXY$http_proxy >/p",
         options=given("HTTP_PROXY=http://p:1")),
    case("arg-predefined-proxy-not-in-history", BUSYBOX, "RUN echo >/p",
         options=given("HTTPS_PROXY=http://secret:1")),
    case("arg-platform", BUSYBOX, "ARG TARGETPLATFORM", "ARG TARGETOS", "ARG TARGETARCH",
         "ARG BUILDPLATFORM", "ARG BUILDARCH",
         "RUN echo $TARGETPLATFORM $TARGETOS $TARGETARCH $BUILDPLATFORM $BUILDARCH >/p"),
    case("arg-platform-undeclared", BUSYBOX, "RUN echo x$TARGETPLATFORM >/p"),
    case("arg-platform-in-from", "FROM --platform=$BUILDPLATFORM localhost/busybox",
         "RUN touch /x"),
    case("arg-used-in-user-and-workdir", SCRATCH, "ARG U=5", "ARG D=/d", "USER $U", "WORKDIR $D"),
    case("arg-case-matters", SCRATCH, "ARG a=1", "ARG A=2", "LABEL l=$a$A"),
    case("arg-overrides-path-of-base-not", BUSYBOX, "ARG PATH=/nowhere", "RUN echo $PATH >/p"),
    case("arg-unused-given", BUSYBOX, "RUN echo x$NEVER >/a", options=given("NEVER=1")),
)  # fmt: skip

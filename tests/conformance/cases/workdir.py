"""WORKDIR and VOLUME."""

from support.dockerfiles import case

SCRATCH = "FROM scratch"
BUSYBOX = "FROM localhost/busybox"
LINKS = "FROM localhost/links"

CASES = (
    case("workdir-made", SCRATCH, "WORKDIR /a/b/c"),
    case("workdir-relative", SCRATCH, "WORKDIR /a", "WORKDIR b", "WORKDIR ./c", "WORKDIR ../d"),
    case("workdir-relative-from-root", SCRATCH, "WORKDIR a"),
    case("workdir-pwd", BUSYBOX, "WORKDIR /a", "WORKDIR b", "RUN pwd >/pwd"),
    case("workdir-existing-keeps-mode", BUSYBOX, "WORKDIR /tmp", "RUN touch here"),
    case("workdir-slashes", SCRATCH, "WORKDIR //a//b/"),
    case("workdir-root", SCRATCH, "WORKDIR /"),
    case("workdir-with-space", SCRATCH, "WORKDIR /with space"),
    case("workdir-by-arg", BUSYBOX, "ARG D=/x", "WORKDIR ${D}/y", "RUN pwd >/pwd"),
    case("workdir-through-symlink", LINKS, "WORKDIR /absolute/new", "RUN pwd -P >/pwd"),
    case("workdir-of-base", "FROM localhost/configured", "WORKDIR sub"),
    case("workdir-of-base-used", "FROM localhost/configured", "COPY f .", files={"f": "f"}),
    case("workdir-never-used-later", BUSYBOX, "WORKDIR /early", "WORKDIR /late", "RUN touch f"),
    case("volume-one", SCRATCH, "VOLUME /v"),
    case("volume-several", SCRATCH, "VOLUME /v /w /x/y"),
    case("volume-exec-form", SCRATCH, 'VOLUME ["/v", "/with space"]'),
    case("volume-and-base", "FROM localhost/configured", "VOLUME /mine"),
    case("volume-twice", SCRATCH, "VOLUME /v", "VOLUME /v"),
    case("volume-content-before", BUSYBOX, "RUN mkdir /v && echo x >/v/f", "VOLUME /v"),
    case("volume-copy-after", BUSYBOX, "VOLUME /v", "COPY f /v/", files={"f": "f"}),
)  # fmt: skip

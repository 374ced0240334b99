"""ONBUILD: written by one build, done by the next."""

from support.dockerfiles import case

SCRATCH = "FROM scratch"
FILES = {"trigger.txt": "t\n", "f": "f"}

CASES = (
    case("onbuild-in-config", SCRATCH, "ONBUILD COPY . /app", "ONBUILD RUN make  -j"),
    case("onbuild-lower-case", SCRATCH, "onbuild run echo x"),
    case("onbuild-continued", SCRATCH, "ONBUILD RUN a && \\", "  b"),
    case("onbuild-runs", "FROM localhost/triggers", files=FILES),
    case("onbuild-runs-before-the-rest", "FROM localhost/triggers", "RUN cat /triggered/* >/seen",
         files=FILES),
    case("onbuild-is-not-inherited-twice", "FROM localhost/triggers AS one", "FROM one",
         "RUN rm -r /triggered", files=FILES),
    case("onbuild-own-added", "FROM localhost/triggers", "ONBUILD ENV OWN=1", files=FILES),
    case("onbuild-keeps-variables", SCRATCH, "ENV A=1", "ONBUILD ENV B=$A"),
    case("onbuild-exec-form", SCRATCH, 'ONBUILD RUN ["a", "b"]'),
    case("onbuild-many", SCRATCH, *(f"ONBUILD LABEL l{number}=x" for number in range(5))),
)  # fmt: skip

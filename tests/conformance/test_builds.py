"""Every case of the corpus, built by podpy and by buildah: the images are the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import corpus
from conformance.comparing import differences
from conformance.differences import unexplained
from support.buildah import Builds
from support.command import Completed
from support.dockerfiles import Case
from support.flat import Image, Reader
from support.images import EPOCH
from support.podpy import Podpy

#: Everything that the corpus lays out carries a time of this one day; builds are later.
STARTED = EPOCH + 86400.0


def params(areas: dict[str, tuple[Case, ...]]) -> Iterator[object]:
    for area, cases in areas.items():
        for case in cases:
            yield pytest.param(area, case, id=case.name)


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader()


def build(podpy: Podpy, case: Case, context: Path, code: int | None = 0) -> Completed:
    options = [option.replace("{context}", str(context)) for option in case.options]
    fixed = ("-q", "--format", "docker", "--network", "none", "-t", f"localhost/{case.name}")
    return podpy("build", *fixed, *options, context, env=case.env, code=code)


def built(podpy: Podpy, reader: Reader, case: Case, context: Path) -> Image:
    """The image that podpy builds of a case."""
    build(podpy, case, context)
    archive = podpy.directory / "tmp" / f"{case.name}.tar"
    podpy("save", "-q", "--format", "docker-archive", "-o", archive, f"localhost/{case.name}")
    image = reader.images(archive)[case.name]
    archive.unlink()
    return image


@pytest.mark.parametrize(("area", "case"), params(corpus.COMPARED))
def test_the_same_image(
    area: str, case: Case, builder: Podpy, builds: Builds, reader: Reader
) -> None:
    ours = built(builder, reader, case, builds.contexts / area / case.name)
    code, output = builds.result(area, case.name)
    assert code == 0, f"the peer cannot build it: {output}"
    theirs = builds.images(area, reader)[case.name]
    assert case.problems(ours) == []
    assert unexplained(case.name, differences(ours, theirs, STARTED)) == []


@pytest.mark.parametrize(("area", "case"), params(corpus.REFUSED))
def test_both_refuse(area: str, case: Case, builder: Podpy, builds: Builds) -> None:
    done = build(builder, case, builds.contexts / area / case.name, code=None)
    code, _ = builds.result(area, case.name)
    assert done.code != 0, "podpy builds it"
    assert "Traceback" not in done.stderr, done.stderr
    assert case.refused in done.stderr, done.stderr
    assert code != 0, "the peer builds it"


@pytest.mark.parametrize(("area", "case"), params(corpus.REFERENCE))
def test_as_the_reference_says(
    area: str, case: Case, builder: Podpy, reader: Reader, tmp_path: Path
) -> None:
    """What the peer's version does not know yet, or what only BuildKit does."""
    if case.refused:
        done = build(builder, case, case.write(tmp_path), code=None)
        assert done.code != 0 and case.refused in done.stderr, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return
    assert case.tree or case.config, "nothing is expected of it"
    assert case.problems(built(builder, reader, case, case.write(tmp_path))) == []

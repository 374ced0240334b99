"""Builds as people do them: Debian's packages, pip, npm, a compiler; and what comes out runs.

The base images are made by mmdebstrap when the tests first run.  What this machine
needs to reach the registries (its CA bundle) is mounted as a secret, and the images
must not know of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import image as big_image
from support import debian, host, processes
from support.command import Completed
from support.flat import Image, Reader
from support.podpy import Podpy
from support.polling import eventually

pytestmark = [pytest.mark.internet, pytest.mark.needs("mmdebstrap", "slirp4netns")]

SMALL = "localhost/debian-small:latest"
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
SECRET = ("--secret", f"id=bundle,src={BUNDLE}")
MOUNT = "--mount=type=secret,id=bundle,target=/run/secrets/bundle.crt"
MINUTES = 60.0


@pytest.fixture(name="builder", scope="module")
def _builder(base: Path, cgroup: host.OwnCgroup) -> Iterator[Podpy]:
    """podpy with one store for all of these: its base images are large."""
    host.require("newuidmap", "subids")
    directory = base / "real"
    directory.mkdir(mode=0o700)
    watch = processes.Watch()
    runner = Podpy(directory, cgroup)
    yield runner
    runner.clean_up(watch)


@pytest.fixture(name="small", scope="module")
def _small(builder: Podpy) -> str:
    """Debian and nothing else."""
    archive = debian.archive(debian.cache("podpy-debian"), SMALL)
    builder("load", "-q", "-i", archive, timeout=2 * MINUTES)
    return SMALL


@pytest.fixture(name="big", scope="module")
def _big(builder: Podpy) -> str:
    """Debian with a compiler, Python and more."""
    builder("load", "-q", "-i", big_image.big_archive(), timeout=5 * MINUTES)
    return big_image.NAME


@pytest.fixture(name="context")
def _context(tmp_path: Path) -> Path:
    return tmp_path


def build(
    podpy: Podpy, name: str, context: Path, *lines: str, options: tuple[str, ...] = ()
) -> Completed:
    (context / "Dockerfile").write_text("".join(line + "\n" for line in lines))
    return podpy(
        "build", "--progress=plain", "-t", f"localhost/{name}", *options, context,
        timeout=20 * MINUTES,
    )  # fmt: skip


def run(podpy: Podpy, name: str, *words: str) -> Completed:
    return podpy("run", "--rm", "--network", "none", f"localhost/{name}", *words)


def read(podpy: Podpy, name: str) -> Image:
    archive = podpy.directory / "tmp" / f"{name}.tar"
    podpy("save", "-q", "--format", "docker-archive", "-o", archive, f"localhost/{name}",
          timeout=5 * MINUTES)  # fmt: skip
    image = Reader().images(archive)[name]
    archive.unlink()
    return image


def assert_knows_nothing_of_the_machine(image: Image) -> None:
    """Neither the machine's CA bundle, nor where it was mounted, nor what a build mounts."""
    bundle = hashlib.sha256(BUNDLE.read_bytes()).hexdigest()
    own = "etc/ssl/certs/ca-certificates.crt"  # Debian's, which may be the same one
    assert [path for path, entry in image.tree.items() if entry.content == bundle] in ([], [own])
    assert [path for path in image.tree if path.startswith("run/secrets")] == []
    document = json.dumps({**image.document, "history": None})
    assert "bundle" not in document and str(BUNDLE) not in document
    assert not {"etc/resolv.conf", "etc/hosts", "etc/hostname"} & set(image.tree)


def test_packages_are_installed_as_anywhere(builder: Podpy, small: str, context: Path) -> None:
    """apt-get needs no settings, no fake users, no sandbox switched off."""
    build(
        builder, "hello", context, f"FROM {small}",
        "RUN apt-get update && apt-get install -y --no-install-recommends hello",
        'CMD ["hello"]',
    )  # fmt: skip
    assert run(builder, "hello").text == "Hello, world!"
    image = read(builder, "hello")
    assert image.tree["usr/bin/hello"].mode == 0o755
    # apt drops its rights to a user of its own, who owns this one.
    owner = image.tree["var/lib/apt/lists/partial"].owner
    users = run(builder, "hello", "getent", "passwd", str(owner[0])).text
    assert users.startswith("_apt:")
    assert_knows_nothing_of_the_machine(image)


def test_a_program_built_in_one_stage_and_shipped_alone(
    builder: Podpy, big: str, context: Path
) -> None:
    (context / "hello.c").write_text(
        '#include <stdio.h>\nint main(int n, char **w) { printf("%s of %d\\n", w[1], n); }\n'
    )
    build(
        builder, "static", context, f"FROM {big} AS build", "WORKDIR /src", "COPY hello.c .",
        "RUN gcc -O2 -Wall -static -o hello hello.c && ./hello tested",
        "FROM scratch", "COPY --from=build /src/hello /hello", 'ENTRYPOINT ["/hello"]',
    )  # fmt: skip
    assert run(builder, "static", "one").text == "one of 2"
    image = read(builder, "static")
    assert sorted(set(image.tree) - {"."}) == ["hello"]
    assert len(image.document["rootfs"]["diff_ids"]) == 1


@pytest.mark.long
def test_a_python_application_with_pip_and_a_cache_mount(
    builder: Podpy, big: str, context: Path
) -> None:
    (context / "requirements.txt").write_text("flask==3.0.3\n")
    (context / "app.py").write_text(
        "from flask import Flask\napp = Flask(__name__)\n"
        "@app.get('/')\ndef index():\n    return 'served by flask'\n"
        "print(app.test_client().get('/').text)\n"
    )
    # The wheels themselves are kept: what pip caches of answers is for servers to say.
    install = (
        f"RUN --mount=type=cache,target=/wheels {MOUNT} export PIP_CERT=/run/secrets/bundle.crt",
        "/venv/bin/pip download -d /wheels -r requirements.txt",
        "/venv/bin/pip install --no-index --find-links /wheels -r requirements.txt",
    )
    lines = (
        f"FROM {big} AS python",
        "RUN apt-get update && apt-get install -y --no-install-recommends python3-venv",
        "RUN python3 -m venv /venv",
        "FROM python", "WORKDIR /app", "COPY requirements.txt .", " && ".join(install),
        "COPY app.py .", "USER nobody", 'CMD ["/venv/bin/python", "app.py"]',
    )  # fmt: skip
    build(builder, "flask", context, *lines, options=SECRET)
    assert run(builder, "flask").text == "served by flask"
    image = read(builder, "flask")
    assert "venv/lib/python3.11/site-packages/flask/app.py" in image.tree
    assert [path for path in image.tree if path.endswith(".whl") and "flask" in path] == []
    assert_knows_nothing_of_the_machine(image)
    (context / "requirements.txt").write_text("flask==3.0.3\nitsdangerous\n")
    again = build(builder, "flask", context, *lines, options=SECRET)
    assert "File was already downloaded /wheels/flask-3.0.3" in again.stderr
    assert again.stderr.count("CACHED") >= 3


@pytest.mark.long
def test_a_node_application_with_npm(builder: Podpy, small: str, context: Path) -> None:
    (context / "package.json").write_text(
        '{"name": "app", "version": "1.0.0", "dependencies": {"express": "4.19.2"}}'
    )
    (context / "app.js").write_text(
        "const app = require('express')();\n"
        "app.get('/', (request, answer) => answer.send('served by express'));\n"
        "const server = app.listen(8080, '127.0.0.1', () =>\n"
        "  require('http').get('http://127.0.0.1:8080/', answer =>\n"
        "    answer.on('data', data => { console.log(`${data}`); server.close(); })));\n"
    )
    build(
        builder, "express", context, f"FROM {small}",
        "RUN apt-get update && apt-get install -y --no-install-recommends nodejs npm",
        "WORKDIR /app", "COPY package.json .",
        f"RUN --mount=type=cache,target=/root/.npm {MOUNT} \\",
        "  NODE_EXTRA_CA_CERTS=/run/secrets/bundle.crt npm install --no-audit --no-fund",
        "COPY app.js .", "USER nobody", 'CMD ["node", "app.js"]', options=SECRET,
    )  # fmt: skip
    assert run(builder, "express").text == "served by express"
    image = read(builder, "express")
    assert "app/node_modules/express/index.js" in image.tree
    assert [path for path in image.tree if path.startswith("root/.npm/_cacache")] == []
    assert_knows_nothing_of_the_machine(image)


@pytest.mark.long
def test_redis_from_debians_source_package(builder: Podpy, big: str, context: Path) -> None:
    """Its own packages are built, tested against nothing but a client, and installed."""
    build(
        builder, "redis", context, f"FROM {big} AS build",
        "RUN sed 's/^deb /deb-src /' /etc/apt/sources.list >/etc/apt/sources.list.d/src.list \\",
        "  && apt-get update && apt-get build-dep -y --no-install-recommends redis",
        "WORKDIR /src",
        "RUN apt-get source redis && cd redis-*/ \\",
        "  && DEB_BUILD_OPTIONS='nocheck parallel=2' dpkg-buildpackage -b -uc -us",
        f"FROM {big}",
        "RUN --mount=type=bind,from=build,source=/src,target=/src apt-get update \\",
        "  && apt-get install -y --no-install-recommends \\",
        "     /src/redis-server_*.deb /src/redis-tools_*.deb",
        "USER redis", "WORKDIR /var/lib/redis", "EXPOSE 6379",
        'CMD ["redis-server", "--protected-mode", "no"]',
    )  # fmt: skip
    image = read(builder, "redis")
    redis = image.tree["var/lib/redis"].owner
    assert redis[0] >= 100 and "src" not in image.tree
    assert_knows_nothing_of_the_machine(image)
    builder("run", "-d", "--name", "redis", "--network", "none", "localhost/redis")
    client = ("exec", "redis", "redis-cli")
    eventually(lambda: builder(*client, "ping", code=None).text == "PONG", timeout=MINUTES)
    assert builder(*client, "set", "key", "a value").text == "OK"
    assert builder(*client, "get", "key").text == "a value"
    builder("rm", "-f", "-t", "0", "redis")

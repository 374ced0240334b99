"""Attestations: in-toto statements about a built image, stored beside it.

SLSA provenance v1 says what the image was made of and by what; SPDX 2.3 lists
the packages that its package managers have recorded.  Both are attached as
docker attaches them: a manifest for no platform in the image's index, whose
annotations name the image that it is about.  Only what is known is said.
"""

from __future__ import annotations

import hashlib
import os
import time

from podpy import files, version
from podpy.build import config, inside, packages
from podpy.build.model import Tree
from podpy.engine import build_request
from podpy.engine.build_publish import IN_TOTO, Attestation
from podpy.errors import UsageError
from podpy.records import record
from podpy.storage import manifests, staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from podpy.build.plan import Plan
    from podpy.build.stages import Base, Build
    from podpy.engine.build_options import BuildOptions
    from podpy.engine.build_publish import Made
    from podpy.engine.context import Context
    from podpy.storage.overlay import Driver

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
SPDX = "https://spdx.dev/Document"
_BUILD_TYPE = "urn:podpy:dockerfile:v1"


@record
class Wanted:
    """Which statements are asked for; ``complete`` adds build arguments and the Dockerfile."""

    sbom: bool = False
    provenance: bool = False
    complete: bool = False

    @property
    def any(self) -> bool:
        return self.sbom or self.provenance


def wanted(options: BuildOptions) -> Wanted:
    """What ``--sbom``, ``--provenance`` and ``--attest`` ask for."""
    given = {"sbom": options.sbom, "provenance": options.provenance}
    for text in options.attest:
        found = build_request.attributes(text, "--attest")
        kind = found.pop("type", "")
        if kind not in given:
            raise UsageError(f"--attest {text!r}: type must be sbom or provenance")
        if found.pop("disabled", "false") == "true":
            given[kind] = ""
        else:
            given[kind] = ",".join(f"{k}={v}" for k, v in found.items()) or "true"
    mode = _mode(given["provenance"], "--provenance", ("min", "max"))
    return Wanted(
        sbom=bool(_mode(given["sbom"], "--sbom", ())), provenance=bool(mode), complete=mode == "max"
    )


def _mode(text: str, option: str, modes: tuple[str, ...]) -> str:
    """The mode asked for, ``min`` for plain yes, empty for no."""
    if text.lower() in ("", "false", "0"):
        return ""
    if text.lower() in ("true", "1"):
        return "min"
    found = build_request.attributes(text, option, ("mode",) if modes else ())
    mode = found.get("mode", "min")
    if mode not in modes:
        raise UsageError(f"{option} {text!r}: unknown mode", hint=f"known: {', '.join(modes)}")
    return mode


# --- provenance --------------------------------------------------------------


def provenance(
    plan: Plan, bases: Sequence[Base], begun: float, *, complete: bool
) -> dict[str, Any]:
    """The SLSA predicate of one build; times are left out where a fixed one was asked for."""
    order = plan.order
    request: dict[str, Any] = {"frontend": "dockerfile"}
    if order.target:
        request["target"] = order.target
    if complete:
        request["args"] = {f"build-arg:{k}": v for k, v in sorted(order.arguments.items())}
    definition: dict[str, Any] = {
        "buildType": _BUILD_TYPE,
        "externalParameters": {
            "configSource": {"path": plan.dockerfile.name},
            "request": request,
        },
        "internalParameters": {"builderPlatform": str(order.native)},
        "resolvedDependencies": [
            _dependency(base, str(order.platform)) for base in _distinct(bases)
        ],
    }
    if complete:
        text = "\n".join(plan.dockerfile.lines)
        definition["internalParameters"]["dockerfile"] = text
    metadata: dict[str, Any] = {"invocationId": os.urandom(12).hex()}
    metadata["startedOn"] = config.timestamp_text(begun)
    metadata["finishedOn"] = config.timestamp_text(time.time())
    return {
        "buildDefinition": definition,
        "runDetails": {
            "builder": {"id": "", "version": {"podpy": version.VERSION}},
            "metadata": metadata,
        },
    }


def _distinct(bases: Sequence[Base]) -> list[Base]:
    return list({base.digest: base for base in bases}.values())


def _dependency(base: Base, platform: str) -> dict[str, Any]:
    from urllib.parse import quote

    name, _, tag = base.reference.partition("@")[0].rpartition(":")
    if not name or "/" in tag:
        name, tag = base.reference.partition("@")[0], "latest"
    uri = f"pkg:docker/{quote(name)}@{quote(tag)}?platform={quote(platform, safe='')}"
    return {"uri": uri, "digest": {"sha256": base.digest.removeprefix("sha256:")}}


# --- the bill of materials ---------------------------------------------------


def bill(ctx: Context, driver: Driver, made: Made, created: float) -> dict[str, Any]:
    """The SPDX document of an image's packages."""
    tree = Tree(layers=tuple(layer.diff_id for layer in made.layers))
    place = staging.create(ctx.store, "sbom")
    try:
        found = inside.Room(ctx.store, driver, place).call(packages.find, reading=(tree,))
    finally:
        staging.discard(ctx.store, place)
    listed = [_spdx(number, each) for number, each in enumerate(found, 1)]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"sha256:{made.id}",
        "documentNamespace": f"urn:podpy:image:sha256:{made.id}",
        "creationInfo": {
            "created": config.timestamp_text(int(created)),
            "creators": [f"Tool: podpy-{version.VERSION}"],
            "comment": "Packages that dpkg, apk and Python distributions have recorded.",
        },
        "packages": listed,
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relatedSpdxElement": each["SPDXID"],
                "relationshipType": "DESCRIBES",
            }
            for each in listed
        ],
    }


def _spdx(number: int, found: Mapping[str, str]) -> dict[str, Any]:
    from urllib.parse import quote

    kind, name = found["type"], found["name"]
    space = f"{found['distribution']}/" if kind != "pypi" and found["distribution"] else ""
    arch = found.get("architecture", "")
    purl = f"pkg:{kind}/{space}{quote(name)}@{quote(found['version'], safe='')}"
    if arch:
        purl += f"?arch={quote(arch)}"
    return {
        "SPDXID": f"SPDXRef-Package-{number}",
        "name": name,
        "versionInfo": found["version"],
        "downloadLocation": "NOASSERTION",
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "filesAnalyzed": False,
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": purl,
            }
        ],
    }


# --- how they are attached ---------------------------------------------------


def statement(made: Made, predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
    """An in-toto statement whose subject is an image's manifest."""
    subject = {
        "name": f"pkg:docker/image?platform={made.platform}",
        "digest": {"sha256": made.descriptor.digest.removeprefix("sha256:")},
    }
    document = {
        "_type": STATEMENT,
        "subject": [subject],
        "predicateType": predicate_type,
        "predicate": predicate,
    }
    return files.dumps(document).encode()


def attach(made: Made, statements: Sequence[tuple[str, bytes]]) -> Attestation:
    """The attestation of an image; ``statements`` with their predicate types."""
    digests = [f"sha256:{hashlib.sha256(data).hexdigest()}" for _, data in statements]
    about = {
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": digests},
    }
    settings = files.dumps(about).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": manifests.OCI_MANIFEST,
        "config": {
            "mediaType": manifests.OCI_CONFIG,
            "digest": f"sha256:{hashlib.sha256(settings).hexdigest()}",
            "size": len(settings),
        },
        "layers": [
            {
                "mediaType": IN_TOTO,
                "digest": digest,
                "size": len(data),
                "annotations": {"in-toto.io/predicate-type": kind},
            }
            for digest, (kind, data) in zip(digests, statements)
        ],
    }
    return Attestation(
        subject=made,
        config=settings,
        manifest=files.dumps(document).encode(),
        statements=tuple(data for _, data in statements),
    )


def attest(ctx: Context, asked: Wanted, build: Build, made: Made, *, begun: float) -> Attestation:
    """Every statement that is asked for about one built image."""
    statements = []
    if asked.sbom:
        document = bill(ctx, build.host.driver, made, begun)
        statements.append((SPDX, statement(made, SPDX, document)))
    if asked.provenance:
        predicate = provenance(build.plan, build.bases, begun, complete=asked.complete)
        statements.append((PROVENANCE, statement(made, PROVENANCE, predicate)))
    return attach(made, statements)

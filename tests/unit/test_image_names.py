"""How a name as typed finds an image of the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from podpy.engine import images
from podpy.engine.context import Context
from podpy.errors import Ambiguous, NotFound
from podpy.model import Descriptor
from podpy.paths import Store
from podpy.settings import Config, Registries
from podpy.storage import names


def context(tmp_path: Path, **aliases: str) -> Context:
    store = Store(str(tmp_path))
    store.prepare()
    return Context(store, Config(registries=Registries(aliases=aliases)))


def give(ctx: Context, reference: str, digits: str = "a") -> None:
    manifest = Descriptor(media_type="", digest=f"sha256:{digits * 64}", size=2)
    names.write(ctx.store, names.Name(reference=reference, manifest=manifest, image=digits * 64))


@pytest.mark.parametrize(
    "text", ["web", "web:latest", "localhost/web", "a" * 64, f"sha256:{'a' * 64}", "aaa"]
)
def test_every_way_to_say_it(tmp_path: Path, text: str) -> None:
    ctx = context(tmp_path)
    give(ctx, "localhost/web:latest")
    assert images.find_name(ctx, text).reference == "localhost/web:latest"


def test_an_alias_leads_to_its_image_with_the_tag_asked_for(tmp_path: Path) -> None:
    ctx = context(tmp_path, web="quay.io/team/server")
    give(ctx, "quay.io/team/server:2")
    assert images.find_name(ctx, "web:2").reference == "quay.io/team/server:2"


def test_an_alias_that_was_taken_away_hides_nothing(tmp_path: Path) -> None:
    ctx = context(tmp_path, web="")
    give(ctx, "localhost/web:latest")
    assert images.find_name(ctx, "web").image == "a" * 64


def test_what_nobody_has_and_what_two_have(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    give(ctx, "localhost/one:1", "a")
    give(ctx, "localhost/two:1", "b")
    with pytest.raises(NotFound, match="image not known"):
        images.find_name(ctx, "three")
    names.write(
        ctx.store,
        names.Name(
            reference="localhost/three:1",
            manifest=Descriptor(media_type="", digest=f"sha256:{'c' * 64}", size=2),
            image="a" + "c" * 63,
        ),
    )
    with pytest.raises(Ambiguous):
        images.find_name(ctx, "a")

"""The suite's own reader of images, which judges the builds, is judged here."""

from __future__ import annotations

import io
from pathlib import Path

from conformance.comparing import differences, steps
from support import images
from support.flat import Entry, Image, Reader, Tree, apply, entries
from support.images import EPOCH, Layer


def flat(*layers: Layer) -> Tree:
    tree: Tree = {}
    for layer in layers:
        apply(tree, list(entries(io.BytesIO(layer.bytes()))))
    return tree


def image(tree: Tree, history: list[dict[str, object]] | None = None, **config: object) -> Image:
    return Image(tree, config, {"config": config, "history": history})


def test_later_layers_win() -> None:
    tree = flat(Layer().file("a", "1").file("b", "1"), Layer().file("a", "2", mode=0o600))
    assert (tree["a"].content, tree["a"].mode, tree["b"].content) == ("2", 0o600, "1")


def test_whiteouts_mean_what_lies_below_wherever_they_stand() -> None:
    below = Layer().directory("d").file("d/old", "o").file("d/gone", "g")
    above = Layer().directory("d").file("d/.wh.gone").file("d/new", "n")
    assert set(flat(below, above)) == {"d", "d/old", "d/new"}
    opaque = Layer().directory("d").file("d/new", "n").file("d/.wh..wh..opq")
    assert set(flat(below, opaque)) == {"d", "d/new"}
    assert set(flat(below, Layer().file(".wh.d"))) == set()


def test_a_directory_replaced_by_a_file_takes_its_content_along() -> None:
    tree = flat(Layer().directory("d").file("d/f"), Layer().file("d", "now a file"))
    assert set(tree) == {"d"}


def test_hard_links_are_one_file_until_one_is_replaced() -> None:
    below = Layer().file("a", "x").hardlink("b", "a").hardlink("c", "a")
    assert flat(below)["b"].links == ("a", "b", "c")
    tree = flat(below, Layer().file("b", "other"))
    assert (tree["a"].links, tree["b"].links, tree["c"].links) == (("a", "c"), (), ("a", "c"))
    assert flat(below, Layer().file(".wh.b").file(".wh.c"))["a"].links == ()


def test_what_is_compared() -> None:
    old = Entry("file", 0o644, mtime=EPOCH)
    now = Entry("file", 0o644, mtime=EPOCH + 100)
    started = EPOCH + 50.0
    assert differences(image({"f": old}), image({"f": old}), started) == []
    assert differences(image({"f": now}), image({"f": Entry("file", 0o644, mtime=EPOCH + 200)}),
                       started) == []  # fmt: skip
    (found,) = differences(image({"f": old}), image({"f": now}), started)
    assert found == f"tree: f file time {EPOCH}, theirs now"
    assert differences(image({"f": old}), image({}), started) == ["tree: f only ours"]
    assert differences(image({}), image({"f": old}), started) == ["tree: f only theirs"]
    for change, told in (
        (Entry("file", 0o600, mtime=EPOCH), "mode 0644, theirs 0600"),
        (Entry("file", 0o644, (1, 2), mtime=EPOCH), "owner (0, 0), theirs (1, 2)"),
        (Entry("file", 0o644, content="x", mtime=EPOCH), "content '', theirs 'x'"),
        (Entry("file", 0o644, xattrs={"user.a": "b"}, mtime=EPOCH), "xattrs {}, theirs {"),
        (Entry("fifo", 0o644, mtime=EPOCH), "kind file, theirs fifo"),
    ):
        (found,) = differences(image({"f": old}), image({"f": change}), started)
        assert told in found
    assert differences(image({}, User="a"), image({}), started) == ["config: User 'a', theirs None"]
    assert differences(image({}, Env=[]), image({}, Env=None), started) == []


def test_history_is_compared_by_its_words() -> None:
    mine = [{"created_by": "RUN /bin/sh -c x"}, {"created_by": "ENV A=b", "empty_layer": True}]
    theirs = [
        {"created_by": "/bin/sh -c x"},
        {"created_by": "/bin/sh -c #(nop) ENV A=b", "empty_layer": True},
    ]
    assert steps(image({}, mine)) == steps(image({}, theirs)) == ["RUN", "ENV-"]  # type: ignore[arg-type]
    (found,) = differences(image({}, mine[:1]), image({}, theirs), 0.0)  # type: ignore[arg-type]
    assert found == "history: RUN, theirs RUN ENV-"


def test_archives_of_several_images(tmp_path: Path) -> None:
    path = images.docker_archive(
        tmp_path / "x.tar", "localhost/x:latest", layers=[Layer().file("f", "x")],
        config={"User": "u"},
    )  # fmt: skip
    found = Reader().images(path)
    assert list(found) == ["x"]
    assert (found["x"].tree["f"].content, found["x"].config["User"]) == ("x", "u")

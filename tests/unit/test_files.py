"""Files of the store: JSON without the json package, atomic writes, exclusive names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podpy import files
from podpy.errors import StoreError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_read(value: object) -> None:
    assert files.loads(files.dumps(value)) == value


@given(VALUES)
def test_the_json_package_reads_it_too(value: object) -> None:
    assert json.loads(files.dumps(value)) == value


@pytest.mark.parametrize("text", ['{"a": 1', '{"a', "{", "[1,", '"abc', "nul", "", '{"a":1} x'])
def test_damage_is_a_value_error_where_json_was_never_imported(text: str) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from podpy import files\n"
        "assert 'json' not in sys.modules\n"
        "try: files.loads(sys.argv[2])\n"
        "except ValueError: print('refused')\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-IS", "-c", script, str(root), text], capture_output=True, text=True
    )
    assert done.stdout == "refused\n", done.stderr


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    damaged = tmp_path / "container.json"
    damaged.write_text('{"version": 1, "id": "27')
    with pytest.raises(StoreError, match=r"container\.json"):
        files.read_json(str(damaged))


def test_an_atomic_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    target = tmp_path / "record"
    files.write_atomic(str(target), "one")
    files.write_atomic(str(target), "two", durable=True)
    assert target.read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["record"]


def test_a_name_is_created_once(tmp_path: Path) -> None:
    target = str(tmp_path / "name")
    assert files.create_exclusive(target, "first")
    assert not files.create_exclusive(target, "second")
    assert files.read_bytes(target) == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


def test_removing_a_tree_follows_no_link(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "link").symlink_to(kept)
    assert files.remove_tree(str(tree)) == []
    assert not tree.exists()
    assert (kept / "file").exists()


def test_the_limit_holds_for_what_has_no_size() -> None:
    with pytest.raises(StoreError, match="limit"):
        files.read_bytes("/dev/zero", limit=100_000)

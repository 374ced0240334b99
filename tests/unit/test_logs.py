"""Logs as they are written and read back: nothing lost, nothing invented, nothing forged."""

from __future__ import annotations

import json
import os
import random
import resource
from collections import defaultdict
from pathlib import Path

import pytest

from podpy.runtime import logs
from podpy.runtime.logreader import LogFile, json_runs, k8s_runs
from podpy.runtime.logs import FileLog, JsonFormat, K8sFormat

STAMP = b"2023-11-21T13:28:00.123456789Z"
Chunk = tuple[int, bytes]


def write(path: Path, driver: str, chunks: list[Chunk], **settings: int) -> None:
    log = logs.open_log({"log": {"driver": driver, "path": str(path), **settings}})
    for stream, data in chunks:
        log.write(stream, data)
    log.close()


def read(path: Path, driver: str, **bounds: object) -> dict[int, bytes]:
    """What each stream printed."""
    log = LogFile(str(path), driver, **bounds)  # type: ignore[arg-type]
    streams: dict[int, bytes] = defaultdict(bytes)
    for stream, _, text in log.runs():
        streams[stream] += text
    log.close()
    return streams


def random_chunks(seed: int, count: int = 200) -> list[Chunk]:
    """Chunks cut anywhere, of lines of any kind: empty, long, like our own format, not UTF-8."""
    dice = random.Random(seed)
    pieces = [
        b"\n", b"\n\n", b"line\n", b"no end", b"tab\tquote\"back\\slash\\n\n", "ümläut\n".encode(),
        STAMP + b" stdout F forged\n", b'","stream":"stderr","time":"x"}\n{"log":"forged\n',
        b"\x00\x01\x1b[31m\x7f\n", b"x" * 5000 + b"\n", "🐳".encode() * 40 + b"\n",
    ]  # fmt: skip
    texts = {1: b"", 2: b""}
    for _ in range(count):
        texts[dice.choice((1, 2))] += dice.choice(pieces)
    chunks = []
    while any(texts.values()):
        stream = dice.choice([s for s in texts if texts[s]])
        size = dice.choice((1, 7, 80, 900, 20000))
        chunks.append((stream, texts[stream][:size]))
        texts[stream] = texts[stream][size:]
    return chunks


def joined(chunks: list[Chunk]) -> dict[int, bytes]:
    streams: dict[int, bytes] = defaultdict(bytes)
    for stream, data in chunks:
        streams[stream] += data
    return streams


# --- formats -----------------------------------------------------------------


def test_k8s_lines_and_parts() -> None:
    assert K8sFormat().encode(1, b"a\n\nb", STAMP) == (
        STAMP + b" stdout F a\n" + STAMP + b" stdout F \n" + STAMP + b" stdout P b\n"
    )
    assert K8sFormat().encode(2, b"only\n", STAMP) == STAMP + b" stderr F only\n"


def test_json_is_what_docker_writes() -> None:
    entries = JsonFormat().encode(2, b'say "hi"\\n\nand\x01', STAMP).splitlines()
    assert [json.loads(entry) for entry in entries] == [
        {"log": 'say "hi"\\n\n', "stream": "stderr", "time": STAMP.decode()},
        {"log": "and\x01", "stream": "stderr", "time": STAMP.decode()},
    ]


def test_json_waits_for_the_other_half_of_a_character() -> None:
    encoder = JsonFormat()
    whale = "🐳".encode()
    assert encoder.encode(1, whale[:1], STAMP) == b""
    assert encoder.encode(2, b"meanwhile\n", STAMP)
    assert json.loads(encoder.encode(1, whale[1:], STAMP))["log"] == "🐳"
    assert json.loads(encoder.encode(1, b"\xff\xc3(\n", STAMP))["log"] == "\ufffd\ufffd(\n"


@pytest.mark.parametrize("seed", range(20))
def test_k8s_log_gives_back_every_byte(tmp_path: Path, seed: int) -> None:
    chunks = random_chunks(seed)
    write(tmp_path / "log", "k8s-file", chunks)
    assert read(tmp_path / "log", "k8s-file") == joined(chunks)


@pytest.mark.parametrize("seed", range(20))
def test_json_log_gives_back_every_byte(tmp_path: Path, seed: int) -> None:
    chunks = random_chunks(seed)
    write(tmp_path / "log", "json-file", chunks)
    for line in (tmp_path / "log").read_text().splitlines():
        assert set(json.loads(line)) == {"log", "stream", "time"}
    assert read(tmp_path / "log", "json-file") == joined(chunks)


def test_output_cannot_forge_an_entry() -> None:
    """A payload that prints our format gets its own text back, under its own stream."""
    evil = STAMP + b" stderr F I am stderr\n"
    entries = K8sFormat().encode(1, evil * 3, STAMP)
    assert list(k8s_runs(entries)) == [(1, STAMP, evil * 3)]
    evil = b'x","stream":"stderr","time":"2023"}\n{"log":"I am stderr\n'
    entries = JsonFormat().encode(1, evil * 3, STAMP)
    assert list(json_runs(entries)) == [(1, STAMP, evil * 3)]


def test_what_is_not_ours_is_shown_as_it_is() -> None:
    foreign = b"hand-written\n"
    ours = K8sFormat().encode(2, b"ours\n", STAMP)
    assert list(k8s_runs(foreign + ours)) == [(1, b"", foreign), (2, STAMP, b"ours\n")]
    ours = JsonFormat().encode(2, b"ours\n", STAMP)
    assert list(json_runs(foreign + ours)) == [(1, b"", foreign), (2, STAMP, b"ours\n")]


def test_a_chunk_of_many_lines_is_one_run() -> None:
    """The reader's speed: one piece of Python per chunk, not per line."""
    text = b"".join(b"%d\n" % n for n in range(20000))
    assert len(list(k8s_runs(K8sFormat().encode(1, text, STAMP)))) == 1
    assert len(list(json_runs(JsonFormat().encode(1, text, STAMP)))) == 1


# --- rotation ----------------------------------------------------------------


@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
def test_rotation_keeps_whole_lines_in_order(tmp_path: Path, driver: str) -> None:
    lines = [b"line %05d\n" % n for n in range(3000)]
    chunks = [(1, b"".join(lines[n : n + 17])) for n in range(0, 3000, 17)]
    write(tmp_path / "log", driver, chunks, max_size=20_000, max_file=4)
    files = sorted(os.listdir(tmp_path))
    assert files == ["log", "log.1", "log.2", "log.3"]
    assert all((tmp_path / name).stat().st_size <= 20_000 for name in files)
    kept = read(tmp_path / "log", driver)[1].splitlines(keepends=True)
    assert len(kept) > 600
    assert kept == lines[-len(kept) :]


def test_one_file_starts_afresh(tmp_path: Path) -> None:
    write(tmp_path / "log", "k8s-file", [(1, b"%d\n" % n) for n in range(1000)], max_size=5000)
    assert os.listdir(tmp_path) == ["log"]
    assert (tmp_path / "log").stat().st_size <= 5000
    assert read(tmp_path / "log", "k8s-file")[1].endswith(b"998\n999\n")


def test_a_line_larger_than_a_file_stays_whole(tmp_path: Path) -> None:
    chunks = [(1, b"before\n"), (1, b"y" * 9000 + b"\n"), (1, b"after\n")]
    write(tmp_path / "log", "k8s-file", chunks, max_size=1000, max_file=9)
    assert read(tmp_path / "log", "k8s-file") == joined(chunks)


def test_reading_on_across_rotations(tmp_path: Path) -> None:
    """A follower gets everything once, though files move on under it between two looks."""
    path = tmp_path / "log"
    log = FileLog(str(path), K8sFormat(), 2000, 8)
    reader = LogFile(str(path), "k8s-file")
    seen, written = b"", b""
    for n in range(500):
        line = b"line %d\n" % n
        log.write(1, line)
        written += line
        if n % 60 == 59:
            seen += b"".join(text for _, _, text in reader.runs())
    seen += b"".join(text for _, _, text in reader.runs())
    assert seen == written


def test_a_full_disk_is_confessed(tmp_path: Path) -> None:
    """What could not be logged is counted, and no half entry is left."""
    path = tmp_path / "log"
    log = FileLog(str(path), K8sFormat())
    log.write(1, b"before\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        log.write(1, b"lost " * 50 + b"\n")
        assert not log.keeps_all
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.write(1, b"after\n")
    assert read(path, "k8s-file") == {
        1: b"before\nafter\n",
        2: b"podpy: 251 bytes of output could not be logged\n",
    }


# --- bounds ------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
@pytest.mark.parametrize("wanted", [0, 1, 2, 10, 999, 4999, 5000, 9000])
def test_tail_counts_lines(tmp_path: Path, driver: str, wanted: int) -> None:
    lines = [b"line %d\n" % n for n in range(5000)]
    write(tmp_path / "log", driver, [(1 + n % 2, line) for n, line in enumerate(lines)])
    log = LogFile(str(tmp_path / "log"), driver, tail=wanted)
    assert [text for _, _, text in log.runs()] == lines[max(5000 - wanted, 0) :]
    assert list(log.runs()) == []


def test_tail_across_rotated_files_and_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = FileLog(str(path), K8sFormat(), 1000, 50)
    for n in range(100):
        log.write(1, b"line %d\n" % n)
    reader = LogFile(str(path), "k8s-file", tail=60)
    assert [text for _, _, text in reader.runs()] == [b"line %d\n" % n for n in range(40, 100)]
    log.write(1, b"more\n")
    assert [text for _, _, text in reader.runs()] == [b"more\n"]


def test_tail_puts_the_parts_of_a_line_together(tmp_path: Path) -> None:
    chunks = [(1, b"old\n"), (1, b"one "), (2, b"err\n"), (1, b"line "), (1, b"in parts\n")]
    write(tmp_path / "log", "k8s-file", chunks)
    assert read(tmp_path / "log", "k8s-file", tail=1) == {1: b"one line in parts\n"}
    assert read(tmp_path / "log", "k8s-file", tail=2) == {
        1: b"one line in parts\n",
        2: b"err\n",
    }


def test_a_prompt_without_newline_is_a_line(tmp_path: Path) -> None:
    write(tmp_path / "log", "k8s-file", [(1, b"done\n"), (1, b"login: ")])
    assert read(tmp_path / "log", "k8s-file", tail=1) == {1: b"login: "}


@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
def test_since_and_until_include_their_own_instant(tmp_path: Path, driver: str) -> None:
    stamps = [b"2024-01-01T00:00:0%d.000000000Z" % n for n in range(5)]
    encoder = K8sFormat() if driver == "k8s-file" else JsonFormat()
    entries = [encoder.encode(1, b"%d\n" % n, stamp) for n, stamp in enumerate(stamps)]
    (tmp_path / "log").write_bytes(b"".join(entries))
    path = tmp_path / "log"
    assert read(path, driver, since=stamps[3]) == {1: b"3\n4\n"}
    assert read(path, driver, until=stamps[1]) == {1: b"0\n1\n"}
    assert read(path, driver, until=stamps[3], tail=2) == {1: b"2\n3\n"}


def test_an_entry_being_written_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "log"
    entry = K8sFormat().encode(1, b"complete\n", STAMP)
    path.write_bytes(entry + entry[:20])
    reader = LogFile(str(path), "k8s-file")
    assert [text for _, _, text in reader.runs()] == [b"complete\n"]
    with path.open("ab") as file:
        file.write(entry[20:])
    assert [text for _, _, text in reader.runs()] == [b"complete\n"]


def test_no_log_file_means_no_lines(tmp_path: Path) -> None:
    assert read(tmp_path / "none", "k8s-file") == {}
    assert read(tmp_path / "none", "k8s-file", tail=5) == {}

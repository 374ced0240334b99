"""What is printed: tables, JSON, templates, ages and sizes; nothing a stranger wrote runs."""

from __future__ import annotations

import json

import pytest

from podpy.cli import output

THINGS = output.Listing(
    {"ID": lambda item: item["id"], "Names": lambda item: item["name"], "CreatedAt": lambda _: "t"},
    {"ID": "THING ID"},
    ("ID", "Names"),
)
ITEMS = [{"id": "1", "name": "one"}, {"id": "22", "name": "\x1b[31mred"}]


def printed(capsys: pytest.CaptureFixture[str], *arguments: object, **options: bool) -> str:
    THINGS.print(ITEMS, ("ID", "Names"), *arguments, **options)  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_a_table_is_aligned_and_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys) == (
        "THING ID   NAMES\n"
        "1          one\n"
        "22         \\x1b[31mred\n"
    )  # fmt: skip
    assert "THING" not in printed(capsys, headings=False)


def test_json_is_one_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "json").splitlines()
    assert [json.loads(text) for text in lines] == [
        {"ID": "1", "Names": "one"}, {"ID": "22", "Names": "\x1b[31mred"},
    ]  # fmt: skip
    assert "\x1b" not in "".join(lines)


def test_templates_and_table_templates(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, r"{{.ID}}\t{{upper .Names}}").splitlines()[0] == "1\tONE"
    lines = printed(capsys, r"table {{.ID}}\t{{.CreatedAt}}").splitlines()
    assert [text.split() for text in lines] == [
        ["THING", "ID", "CREATED", "AT"],
        ["1", "t"],
        ["22", "t"],
    ]


def test_no_rows_print_the_headings_only(capsys: pytest.CaptureFixture[str]) -> None:
    THINGS.print([], ("ID", "Names"))
    assert capsys.readouterr().out == "THING ID   NAMES\n"


def test_documents_are_json_with_four_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    value = [{"a": [1, {}], "b": "\x9b2J\u202e", "c": None, "d": []}]
    output.document(value)
    text = capsys.readouterr().out
    assert json.loads(text) == value
    assert text.startswith('[\n    {\n        "a": [\n            1,\n            {}\n        ],')
    assert "\x9b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [("plain ü", "plain ü"), ("a\x1b]0;x\x07b", "a\\x1b]0;x\\x07b"), ("\x9b", "\\x9b"),
     ("\udcff", "\\xff"), ("\u202ex", "\\u202ex"), ("a\nb", "a\\x0ab")],
)  # fmt: skip
def test_control_characters_are_shown_not_sent(raw: str, shown: str) -> None:
    assert output.safe(raw) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"),
     (120, "2 minutes"), (3600, "About an hour"), (7200, "2 hours"), (172800, "2 days"),
     (1209600, "2 weeks"), (5184000, "2 months"), (63072000, "2 years")],
)  # fmt: skip
def test_durations(seconds: int, text: str) -> None:
    assert output.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (7_050_000, "7.05MB"), (133_000_000, "133MB"),
     (1.5e9, "1.5GB")],
)  # fmt: skip
def test_sizes(count: float, text: str) -> None:
    assert output.size(count) == text


def test_times() -> None:
    assert output.rfc3339(0) == "0001-01-01T00:00:00Z"
    assert output.rfc3339(1.5) == "1970-01-01T00:00:01.500000000Z"
    assert output.ago(0) == "N/A"
    assert output.ago(940, 1000) == "About a minute ago"

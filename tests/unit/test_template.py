"""Go templates as ``--format`` takes them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podpy.cli import evaluate, template, values

DATA: dict[str, Any] = {
    "Id": "abc",
    "Empty": "",
    "Nothing": None,
    "Size": 1234,
    "Ratio": 0.5,
    "State": {"Running": True, "Pid": 3, "Health": None},
    "Mounts": [{"Source": "/a", "RW": True}, {"Source": "/b", "RW": False}],
    "Config": {"Labels": {"b": "2", "a.b": "1"}, "Env": ["A=1", "B=2"], "Cmd": []},
}


def render(text: str, data: Any = DATA) -> str:
    return evaluate.render(template.parse(text), data)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain } { text", "plain } { text"),
        ("{{.Id}}-{{ .State.Pid }}", "abc-3"),
        ("{{.ID}} {{.state.running}}", "abc true"),
        ("{{.Config.Env}} {{.Config.Labels}}", "[A=1 B=2] map[a.b:1 b:2]"),
        ("{{.Nothing}}|{{.Ratio}}|{{.State.Running}}", "<no value>|0.5|true"),
        ("{{.Config.Labels.b}}{{.Config.Labels.none}}", "2<no value>"),
        ('{{index .Config.Labels "a.b"}}{{index .Config.Labels "none"}}', "1"),
        ("{{(index .Mounts 1).Source}}", "/b"),
        ("{{index .Config.Env 0}}", "A=1"),
        # pipes
        ('{{join .Config.Env ";"}}', "A=1;B=2"),
        ("{{.Id | upper | printf \"%s!\"}}", "ABC!"),
        ("{{len .Mounts}} {{len .Id}} {{.Config.Env | len}}", "2 3 2"),
        ('{{json .Config.Labels}}', '{"b":"2","a.b":"1"}'),
        ('{{split "a,b" ","}} {{title "ab cd"}} {{lower "AB"}}', "[a b] Ab Cd ab"),
        ("{{truncate .Id 2}} {{pad .Id 1 2}}|", "ab  abc  |"),
        ('{{slice .Id 1 2}} {{println "x" 1}}', "b x 1\n"),
        ('{{print 1 2 "a" "b" 3}}', "1 2ab3"),
        # control
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .Empty}}a{{else if .Nothing}}b{{else}}c{{end}}", "c"),
        ("{{if and .Id (not .Empty)}}x{{end}}{{or .Empty .Id}}", "xabc"),
        ("{{range .Mounts}}{{.Source}},{{end}}", "/a,/b,"),
        ("{{range $i, $m := .Mounts}}{{$i}}{{$m.Source}}{{$.Id}} {{end}}", "0/aabc 1/babc "),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "a.b=1;b=2;"),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        ("{{range .Mounts}}{{if .RW}}{{continue}}{{end}}{{.Source}}{{end}}", "/b"),
        ("{{range .Mounts}}{{.Source}}{{break}}{{end}}", "/a"),
        ("{{with .State}}{{.Pid}}{{end}}{{with .Empty}}a{{else}}b{{end}}", "3b"),
        ("{{with .Empty}}a{{else with .Id}}{{.}}{{end}}", "abc"),
        # variables
        ("{{$x := .Id}}{{$x}}{{$x = 5}}{{$x}}", "abc5"),
        ("{{$n := 0}}{{range .Mounts}}{{$n = .Source}}{{end}}{{$n}}", "/b"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{end}}{{$x}}", "1"),
        # comparisons
        ("{{eq .State.Pid 3}} {{eq .Id \"x\" \"abc\"}} {{ne 1 2}}", "true true true"),
        ("{{lt 1 2}} {{le 2 2}} {{gt .Size 1000}} {{ge 1 2}}", "true true true false"),
        # white space, comments, constants
        ("a {{- .Id -}}  b", "aabcb"),
        ("a {{/* no }} here */}}b {{- /* x */ -}} c", "a bc"),
        ('{{"a\\tb\\u0041"}}{{`c\\n`}}{{\'x\'}}{{"}}"}}', "a\tbAc\\n120}}"),
        ("{{0x10}} {{-3}} {{1.5}} {{true}}", "16 -3 1.5 true"),
        ('{{printf "%5s|%-5s|%05d|%q|%v|%x|%%|%.2f|%T" "a" "b" 42 "c" .Config.Env 255 1.0 1}}',
         '    a|b    |00042|"c"|[A=1 B=2]|ff|%|1.00|int'),
        ('{{printf "%d" "x"}}{{printf "%s"}}{{printf "a" 1}}',
         "%!d(string=x)%!s(MISSING)a%!(EXTRA int=1)"),
    ],
)  # fmt: skip
def test_templates(text: str, expected: str) -> None:
    assert render(text) == expected


def test_json_of_everything_can_be_read_back() -> None:
    assert json.loads(render("{{json .}}")) == DATA


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{{.Id", "unclosed action"),
        ("{{range .Mounts}}", "without {{end}}"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{nope .Id}}", "function 'nope' not defined"),
        ("{{.Nope}}", 'no entry for key "Nope"'),
        ("{{.State.Health.Status}}", "nil value evaluating .Status"),
        ("{{.Id.Sub}}", "can't evaluate field Sub"),
        ("{{index .Mounts 5}}", "out of range"),
        ('{{eq 1 "a"}}', "incompatible types"),
        ("{{$x}}", "undefined variable"),
        ("{{}}", "missing value"),
        ("{{.Id | }}", "missing value"),
        ('{{"a}}', "unterminated"),
        ("{{(.Id}}", "unclosed left parenthesis"),
        ("{{break}}", "outside {{range}}"),
        ("{{range .Id}}{{end}}", "can't iterate"),
        ("{{join}}", "error calling join"),
        ('{{define "x"}}{{end}}', "not supported"),
    ],
)
def test_mistakes_are_explained(text: str, complaint: str) -> None:
    with pytest.raises(template.TemplateError) as caught:
        render(text)
    assert complaint in caught.value.message


def test_a_view_computes_fields_and_takes_methods() -> None:
    view = values.View(
        {"a": "1"},
        {
            "ID": lambda item: "x",
            "Label": lambda item, key: item.get(key, ""),
            "Bad": lambda _: 1 / 0,
        },
        ("ID",),
    )
    assert render('{{.ID}}{{.Label "a"}}{{json .}}', view) == 'x1{"ID":"x"}'
    with pytest.raises(template.TemplateError, match="no field"):
        render("{{.Other}}", view)

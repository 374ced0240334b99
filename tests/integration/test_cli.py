"""What users see: lists, formats, filters, exit codes of the verbs, progress on a terminal."""

from __future__ import annotations

import json

import pytest

from support.podpy import Podpy

ESCAPE = "\x1b]0;owned\x07\x1b[31m"


@pytest.fixture(name="pair")
def _pair(podpy: Podpy, busybox: str) -> Podpy:
    """One container that runs (``up``) and one that has ended with 3 (``down``)."""
    podpy.run_detached(
        "--name", "up", "--network", "none", "--label", "a=1", busybox, "sleep", "1000"
    )
    podpy("run", "--name", "down", "--network", "none", busybox, "sh", "-c", "exit 3", code=3)
    return podpy


def test_ps_has_dockers_columns(pair: Podpy) -> None:
    head, line = pair("ps").lines
    assert head.split("  ")[0] == "CONTAINER ID"
    assert head.replace("CONTAINER ID", "ID").split() == [
        "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES",
    ]  # fmt: skip
    assert '"sleep 1000"' in line
    assert " ago   Up " in line
    assert line.endswith(" up")
    assert line.index("Up ") == head.index("STATUS")


@pytest.mark.parametrize("spelling", [["ps"], ["container", "ls"], ["container", "ps"]])
def test_every_spelling_lists_all(pair: Podpy, spelling: list[str]) -> None:
    assert len(pair(*spelling).lines) == 2
    assert len(pair(*spelling, "-a").lines) == 3
    names = pair(*spelling, "-a", "--format", "{{.Names}}").lines
    assert sorted(names) == ["down", "up"]
    assert "Exited (3) " in pair(*spelling, "-a", "--filter", "name=down").stdout


def test_formats_of_ps(pair: Podpy) -> None:
    rows = [json.loads(line) for line in pair("ps", "-a", "--format", "json").lines]
    assert {row["Names"]: row["State"] for row in rows} == {"up": "running", "down": "exited"}
    assert pair("ps", "--format", "{{json .}}").json()["Labels"] == "a=1"
    table = pair("ps", "--format", r'table {{.Names}}\t{{.Label "a"}}').lines
    assert [line.split() for line in table] == [["NAMES", "a"], ["up", "1"]]
    full = pair("ps", "-q", "--no-trunc").text
    assert len(full) == 64
    assert pair("ps", "-q").text == full[:12]
    assert pair("ps", "--noheading", "-a", "--filter", "status=exited").text.endswith("down")
    done = pair.fails("ps", "--format", "{{.Nope}}")
    assert "no field 'Nope'" in done.stderr


def test_inspect_by_template_and_as_json(pair: Podpy) -> None:
    first = pair("inspect", "up", "down").json()
    assert [entry["State"]["Status"] for entry in first] == ["running", "exited"]
    template = '{{.Name}} {{.State.Pid}} {{index .Config.Labels "a"}}{{range .Args}} {{.}}{{end}}'
    assert pair("inspect", "-f", template, "up").text == f"up {first[0]['State']['Pid']} 1 1000"
    assert pair("container", "inspect", "--format", "{{json .State.ExitCode}}", "down").text == "3"
    done = pair.fails("inspect", "up", "nothing")
    assert [entry["Name"] for entry in done.json()] == ["up"]
    assert "no such object: nothing" in done.stderr


def test_nothing_a_stranger_wrote_reaches_the_terminal(podpy: Podpy, busybox: str) -> None:
    podpy(
        "create", "--name", "x", "--network", "none", "--label", f"evil={ESCAPE}",
        "--env", f"EVIL={ESCAPE}", busybox, "echo", ESCAPE,
    )  # fmt: skip
    for words in (
        ["ps", "-a", "--no-trunc"],
        ["ps", "-a", "--format", "{{.Labels}} {{.Command}}"],
        ["ps", "-a", "--format", r"table {{.Labels}}\t{{.Command}}"],
        ["ps", "-a", "--format", "json"],
        ["inspect", "x"],
        ["inspect", "-f", "{{.Config.Env}} {{json .Config}}", "x"],
    ):
        done = podpy(*words)
        assert "owned" in done.stdout, words
        assert "\x1b" not in done.stdout, words
        assert "\x07" not in done.stdout, words
    done = podpy.fails("rm", f"no{ESCAPE}", code=1)
    assert "\x1b" not in done.stderr
    assert podpy("inspect", "x").json()[0]["Config"]["Labels"] == {"evil": ESCAPE}


def test_removal_tells_by_its_code_what_is_missing_and_what_is_in_use(pair: Podpy) -> None:
    pair.fails("rm", "nothing", code=1)
    pair.fails("rm", "up", code=2)
    pair.fails("rmi", "nothing", code=1)
    pair.fails("volume", "rm", "nothing", code=1)
    assert pair("rm", "-f", "up", "down").lines == ["up", "down"]


def test_existence_is_an_exit_code(pair: Podpy, busybox: str) -> None:
    for noun, name in (("container", "up"), ("image", busybox)):
        assert pair(noun, "exists", name).stdout == ""
        assert pair(noun, "exists", "nothing", code=1).stderr == ""


def test_tags_come_and_go(podpy: Podpy, busybox: str) -> None:
    podpy("tag", busybox, "one:1", "two")
    listed = podpy("images", "--format", "{{.Repository}}:{{.Tag}}").lines
    assert {"localhost/one:1", "localhost/two:latest"} <= set(listed)
    assert len(podpy("images", "-q").lines) == 1, "one image, listed once"
    podpy("untag", busybox, "two")
    assert podpy("rmi", "one:1").lines == ["Untagged: localhost/one:1"]
    assert podpy("images", "--noheading", "--format", "{{.Repository}}").lines == [
        busybox.partition(":")[0]
    ]


def test_prune_asks_unless_forced(pair: Podpy) -> None:
    done = pair("container", "prune", input="n\n", code=1)
    assert "Are you sure" in done.stderr
    assert "down" in pair("ps", "-a").stdout
    identity = pair("inspect", "-f", "{{.Id}}", "down").text
    lines = pair("container", "prune", input="y\n").lines
    assert lines[:2] == ["Deleted Containers:", identity]
    assert pair("container", "prune", "-f").lines == ["Total reclaimed space: 0B"]
    assert "up" in pair("ps").stdout


def test_options_may_be_written_as_docker_takes_them(podpy: Podpy, busybox: str) -> None:
    done = podpy(
        "run", "--rm=true", "-eA=1", "-e", "B=2", "--env=C=3", "--network=none", "-w/tmp",
        busybox, "sh", "-c", "echo $A$B$C $PWD",
    )  # fmt: skip
    assert done.text == "123 /tmp"
    podpy("run", "--rm=false", "--name", "kept", "--network", "none", busybox, "true")
    assert podpy("ps", "-aq").lines != []


def test_root_and_runroot_choose_another_store(podpy: Podpy, busybox: str) -> None:
    other = podpy.directory / "other"
    done = podpy("--root", other, "--runroot", podpy.directory / "r", "images", "-q")
    assert done.text == ""
    assert podpy("info", "--format", "{{.store.root}}").text == str(podpy.store)


def test_info_says_what_this_host_lets_podpy_do(podpy: Podpy) -> None:
    found = podpy("info", "--format", "json").json()
    assert {"host", "store", "modes", "version"} <= set(found)
    assert "driver: " in podpy("info").stdout


def test_starting_with_attachment_takes_one_container(pair: Podpy) -> None:
    assert pair("start", "-a", "down", code=3).stdout == ""
    done = pair.fails("start", "-a", "up", "down")
    assert "multiple containers" in done.stderr

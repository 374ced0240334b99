"""``--egress``: rules in their one spelling, and what is none."""

from __future__ import annotations

import pytest

from podpy.engine.egress import policy
from podpy.errors import UsageError


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("pypi.org", "pypi.org"),
        ("PyPI.org.:443", "pypi.org:443"),
        ("*.PythonHosted.org", "*.pythonhosted.org"),
        ("*.org:80", "*.org:80"),
        ("db", "db"),
        ("_dmarc.example.org", "_dmarc.example.org"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3:0443", "10.1.2.3:443"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("10.0.0.0/8:5432", "10.0.0.0/8:5432"),
        ("0.0.0.0/0:443", "0.0.0.0/0:443"),
        ("fd00:0::7", "fd00::7"),
        ("fd00::7/64", "fd00::/64"),
        ("::1", "::1"),
        ("[fd00::7]", "fd00::7"),
        ("[fd00::7]:443", "[fd00::7]:443"),
        ("[fd00::7/64]:443", "[fd00::/64]:443"),
    ],
)
def test_one_rule(text: str, rule: str) -> None:
    assert policy((text,)).rules == (rule,)
    assert policy((rule,)).rules == (rule,)


def test_lists_and_repetition() -> None:
    assert policy(("a.example, b.example:1", "a.example")).rules == ("a.example", "b.example:1")
    assert policy(("none",)).rules == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "invalid rule"),
        ("a,,b", "invalid rule"),
        ("none,a.example", "nothing else"),
        ("*", "allows everything"),
        ("a.*.example", "invalid rule"),
        ("*a.example", "invalid rule"),
        ("-a.example", "invalid rule"),
        ("a..example", "invalid rule"),
        ("a_b c", "invalid rule"),
        ("http://a.example", "invalid"),
        ("x" * 64 + ".example", "invalid rule"),
        ("bücher.example", "ASCII"),
        ("host.123", "invalid rule"),
        ("1.2.3", "invalid IP address"),
        ("1.2.3.4.5", "invalid IP address"),
        ("10.0.0.0/33", "invalid CIDR"),
        ("a.example/8", "invalid"),
        ("a.example:", "invalid port"),
        ("a.example:0", "invalid port"),
        ("a.example:65536", "invalid port"),
        ("a.example:443/tcp", "invalid"),
        ("[fd00::7", "invalid rule"),
        ("[fd00::7]443", "invalid rule"),
        ("[10.0.0.1]:443", "invalid rule"),
        ("[fd00::7]:x", "invalid port"),
        ("fd00::7:x", "invalid IP address"),
        (":443", "invalid rule"),
    ],
)
def test_what_is_none(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        policy((text,))

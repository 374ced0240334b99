"""Which proxy a URL goes through: ``http_proxy``, ``https_proxy``, ``no_proxy``.

Lower case wins over upper case.  ``no_proxy`` takes what docker and podman
take: host names with their subdomains, ``.domain``, addresses, networks
(``10.0.0.0/8``), any of them with ``:port``, and ``*``.  The loopback is never
asked for through a proxy.
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit


def find(url: str) -> str:
    """The proxy's URL, or an empty string for a direct connection."""
    parts = urlsplit(url)
    proxy = _variable(f"{parts.scheme}_proxy")
    host = (parts.hostname or "").lower()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if not proxy or _is_direct(host, port, _variable("no_proxy")):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.upper(), "")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _is_direct(host: str, port: int, exceptions: str) -> bool:
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(
        _excepts(entry.strip().lower(), host, port, address) for entry in exceptions.split(",")
    )


def _excepts(
    entry: str, host: str, port: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None
) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdigit() and _address(entry) is None:
        if int(wanted) != port:
            return False
        entry = name
    if address is not None:
        return _address(entry) == address
    entry = entry.removeprefix("*").removeprefix(".")
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))

"""The options that every transfer shares: how registries are reached."""

from __future__ import annotations

from podpy.records import record


@record
class RegistryOptions:
    """How to reach registries: options that pull, push, login and logout share.

    ``creds`` is ``NAME:PASSWORD``; an empty ``retry`` (a number) or
    ``retry_delay`` is left to the configuration, then 3 tries after 1 second.
    """

    authfile: str = ""
    creds: str = ""
    cert_dir: str = ""
    tls_verify: bool | None = None
    retry: str = ""
    retry_delay: str = ""

"""Verbs that talk to registries."""

from __future__ import annotations

from podpy.cli import output
from podpy.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.cli import options as opt
    from podpy.engine.context import Context


def pull(
    ctx: Context,
    *,
    references: opt.References,
    all_tags: opt.AllTags = False,
    platform: opt.Platform = "",
    arch: opt.Arch = "",
    os_: opt.Os = "",
    variant: opt.Variant = "",
    policy: opt.Policy = "",
    quiet: opt.Silent = False,
    authfile: opt.AuthFile = "",
    cert_dir: opt.CertDir = "",
    creds: opt.Creds = "",
    tls_verify: opt.TlsVerify = None,
    retry: opt.Retry = "",
    retry_delay: opt.RetryDelay = "",
) -> None:
    """Pull images from registries."""
    from podpy.cli import progress
    from podpy.engine import registries, transfer

    options = transfer.PullOptions(
        all_tags=all_tags, platform=platform, arch=arch, os=os_, variant=variant,
        policy=policy or "always",
        registry=registries.RegistryOptions(
            authfile=authfile, cert_dir=cert_dir, creds=creds, tls_verify=tls_verify,
            retry=retry, retry_delay=retry_delay,
        ),
    )  # fmt: skip
    for name in () if quiet or all_tags else references:
        if transfer.with_tag(name) != name:
            output.note("Using default tag: latest")
    with progress.shown(quiet=quiet) as report:
        identities = transfer.pull(ctx, references, options, report)
    for identity in identities:
        output.line(identity)


def push(
    ctx: Context,
    *,
    name: opt.Image,
    destination: opt.Destination = "",
    quiet: opt.Silent = False,
    all_tags: opt.AllTags = False,
    authfile: opt.AuthFile = "",
    cert_dir: opt.CertDir = "",
    creds: opt.Creds = "",
    tls_verify: opt.TlsVerify = None,
    digestfile: opt.DigestFile = "",
    retry: opt.Retry = "",
    retry_delay: opt.RetryDelay = "",
) -> None:
    """Push an image to a registry."""
    from podpy.cli import progress
    from podpy.engine import pushing, registries

    options = pushing.PushOptions(
        all_tags=all_tags, digestfile=digestfile,
        registry=registries.RegistryOptions(
            authfile=authfile, cert_dir=cert_dir, creds=creds, tls_verify=tls_verify,
            retry=retry, retry_delay=retry_delay,
        ),
    )  # fmt: skip
    with progress.shown(quiet=quiet, push=True) as report:
        done = pushing.push(ctx, name, destination, options, report)
    for one in done:
        text = f"{one.tag}: digest: {one.digest} size: {one.size}"
        output.line(one.reference if quiet else text)


def login(
    ctx: Context,
    *,
    registry: opt.Registry = "",
    username: opt.Username = "",
    password: opt.Password = "",
    password_stdin: opt.PasswordStdin = False,
    authfile: opt.AuthFile = "",
    cert_dir: opt.CertDir = "",
    tls_verify: opt.TlsVerify = None,
    get_login: opt.GetLogin = False,
    verbose: opt.Verbose = False,
) -> None:
    """Log in to a registry and remember the credentials."""
    from podpy.engine import logins, registries

    how = registries.RegistryOptions(authfile=authfile, cert_dir=cert_dir, tls_verify=tls_verify)
    if get_login:
        output.line(logins.logged_in(ctx, registry, how))
        return
    if password and password_stdin:
        raise UsageError("--password and --password-stdin: only one can be given")
    if password:
        output.warning("--password shows in the list of processes; use --password-stdin")
    username, password = _credentials(username, password, password_stdin)
    result = logins.login(ctx, registry, username, password, how)
    output.note(f"{'Used: ' if verbose else 'credentials are in '}{result.place}")
    output.line("Login Succeeded!")


def _credentials(username: str, password: str, from_stdin: bool) -> tuple[str, str]:
    """What was not given is asked for, on a terminal only."""
    import getpass
    import sys

    if from_stdin:
        if not username:
            raise UsageError("--password-stdin: needs --username too")
        return username, sys.stdin.read().rstrip("\r\n")
    if (not username or not password) and not sys.stdin.isatty():
        raise UsageError(
            "login: standard input is no terminal", hint="use --username and --password-stdin"
        )
    if not username:
        sys.stderr.write("Username: ")
        sys.stderr.flush()
        username = sys.stdin.readline().strip()
    return username, password or getpass.getpass("Password: ")


def logout(
    ctx: Context,
    *,
    registry: opt.Registry = "",
    every: opt.AllRegistries = False,
    authfile: opt.AuthFile = "",
) -> None:
    """Forget the credentials of a registry."""
    from podpy.engine import logins
    from podpy.errors import NotFound

    try:
        places = logins.logout(ctx, registry, all=every, authfile=authfile)
    except NotFound:
        output.line(f"Not logged in to {logins.login_key(ctx, registry)}")
        return
    what = "all registries" if every else logins.login_key(ctx, registry)
    if places:
        output.line(f"Removing login credentials for {what}")

"""Git repositories as build contexts, and for ADD.

The ``git`` program fetches, with a configuration of ours alone: no hooks, no
filters, no file system monitor, no credential helpers, no prompts, and only
the transports that are meant for strangers.  What a repository brings is
files; that its symbolic links lead nowhere is the business of whoever reads
them (they are resolved inside the context).
"""

from __future__ import annotations

import os
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from podpy import files
from podpy.errors import BuildError, HostError
from podpy.kernel import process
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_HEX = set("0123456789abcdef")
_SWITCHES = ("keep-git-dir", "submodules", "fetch-by-commit")
_QUERY = ("ref", "tag", "branch", "subdir", "checksum", "commit", "mtime", *_SWITCHES)
_GIT = ".git"
_FETCH = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules")
_EVERYTHING = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
_TRUE, _FALSE = ("", "1", "true"), ("0", "false")
# What git may take from our environment; nothing that names a repository or a program.
_PASSED = (
    "PATH", "USER", "LOGNAME", "TMPDIR", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH", "GIT_SSL_NO_VERIFY", "GIT_SSH", "GIT_SSH_COMMAND", "http_proxy",
    "https_proxy", "no_proxy", "all_proxy", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
)  # fmt: skip
_CONFIG = """\
[core]
	hooksPath = /dev/null
	fsmonitor = false
	attributesFile = /dev/null
	excludesFile = /dev/null
	protectHFS = true
	protectNTFS = true
[protocol]
	allow = never
[protocol "https"]
	allow = always
[protocol "http"]
	allow = always
[protocol "git"]
	allow = always
[protocol "ssh"]
	allow = always
[protocol "file"]
	allow = user
[protocol "ext"]
	allow = never
[credential]
	helper =
[submodule]
	recurse = false
[safe]
	bareRepository = explicit
[http]
	lowSpeedLimit = 1000
	lowSpeedTime = 60
[gc]
	auto = 0
[maintenance]
	auto = false
[advice]
	detachedHead = false
[init]
	defaultBranch = main
"""
# "user": what the command line names, and no submodule.
_NO_SSH = '[protocol "ssh"]\n\tallow = user\n'
# Without the settings and the keys in the user's home, which ssh finds without HOME.
_SSH_OF_NOBODY = "ssh -F none -o IdentityFile=none -o BatchMode=yes"


@record
class Repository:
    """A commit of a git repository, and a directory in it.

    ``remote`` is what git fetches from, without user name and password, which
    are in ``login``.  ``ref`` is a branch, tag or commit (or a whole name of a
    ref), empty for the default branch; ``checksum`` is the beginning of the
    commit that it must be.  ``commit_times`` gives all files the commit's time.
    A ``foreign`` one is named by a Dockerfile and not by the user: his keys and
    his settings for ssh are not for it.
    """

    remote: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool = True
    commit_times: bool = False
    login: str = ""
    foreign: bool = False

    @property
    def origin(self) -> str:
        """Scheme, host and port: where credentials may go; empty for ssh and files."""
        parts = urlsplit(self.remote)
        return f"{parts.scheme}://{parts.netloc}/" if parts.scheme in ("http", "https") else ""

    @property
    def host(self) -> str:
        if "://" in self.remote:
            return urlsplit(self.remote).hostname or ""
        return self.remote.partition("@")[2].partition(":")[0]

    def __repr__(self) -> str:
        return f"Repository(remote={self.remote!r}, ref={self.ref!r}, subdir={self.subdir!r})"


# --- addresses ---------------------------------------------------------------


def parse(text: str) -> Repository | None:
    """The repository that a context or a source of ADD names; None when it names none.

    ``https://host/path.git``, ``git://``, ``ssh://``, ``file://``,
    ``user@host:path`` and ``github.com/owner/name``; then ``#ref:directory``, or
    ``?ref=&tag=&branch=&subdir=&checksum=&keep-git-dir=&submodules=&mtime=``;
    ``fetch-by-commit`` takes the commit of ``checksum`` wherever the ref is now.
    """
    address, hash_mark, fragment = text.partition("#")
    address, question, query = address.partition("?")
    try:
        if not is_address(address):
            return None
    except ValueError as error:  # brackets that hold no address
        raise BuildError(f"{text!a}: {error}") from None
    fields = _queried(text, query) if question else {}
    if hash_mark:
        ref, _, subdir = fragment.partition(":")
        _set(text, fields, "ref", ref)
        _set(text, fields, "subdir", subdir)
    if address.startswith("github.com/"):
        address = f"https://{address}"
    if fields.get("mtime", "checkout") not in ("checkout", "commit"):
        raise BuildError(f"git context {_shown(text)}: mtime is neither checkout nor commit")
    if _switch(text, fields, "fetch-by-commit"):
        fields["ref"] = fields.get("checksum", "")
        if not _is_commit(fields["ref"]):
            raise BuildError(f"git context {_shown(text)}: fetch-by-commit needs a whole checksum")
    remote, login = _without_login(address)
    made = Repository(
        remote=remote,
        login=login,
        ref=fields.get("ref", ""),
        subdir=fields.get("subdir", ""),
        checksum=fields.get("checksum", ""),
        keep_git_dir=_switch(text, fields, "keep-git-dir"),
        submodules=_switch(text, fields, "submodules") is not False,
        commit_times=fields.get("mtime") == "commit",
    )
    _check(text, made)
    return made


def is_address(address: str) -> bool:
    """Whether an address, without query and fragment, is a git repository's."""
    lowered = address.lower()
    if lowered.startswith(("git://", "ssh://", "file://", "github.com/")):
        return True
    if lowered.startswith(("https://", "http://")):
        return urlsplit(address).path.endswith(".git")
    user, at, rest = address.partition("@")
    host, colon, path = rest.partition(":")
    return bool(at and colon and user and host and path) and "/" not in user + host


def _set(text: str, fields: dict[str, str], key: str, value: str) -> None:
    if not value:
        return
    if fields.get(key, value) != value:
        raise BuildError(f"git context {_shown(text)}: two different values for its {key}")
    fields[key] = value


def _queried(text: str, query: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in _QUERY:
            raise BuildError(
                f"git context {_shown(text)}: unknown query {key!a}",
                hint=f"known: {', '.join(_QUERY)}",
            )
        if key in ("tag", "branch"):
            kind = "tags" if key == "tag" else "heads"
            _set(text, fields, "ref", f"refs/{kind}/{value}" if value else "")
        elif key in ("checksum", "commit"):
            _set(text, fields, "checksum", value)
        elif key in _SWITCHES:
            fields[key] = value
        else:
            _set(text, fields, key, value)
    return fields


def _switch(text: str, fields: Mapping[str, str], key: str) -> bool | None:
    value = fields.get(key)
    if value is None:
        return None
    if value.lower() not in (*_TRUE, *_FALSE):
        raise BuildError(f"git context {_shown(text)}: {key} is neither true nor false")
    return value.lower() in _TRUE


def _without_login(address: str) -> tuple[str, str]:
    """An address without the user name and password of http(s), and these two."""
    if not address.lower().startswith(("http://", "https://")):
        return address, ""
    parts = urlsplit(address)
    login, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=host)), unquote(login) if at else ""


def _shown(text: str) -> str:
    address, mark, rest = text.partition("#")
    return ascii(_without_login(address)[0] + mark + rest)


def _check(text: str, made: Repository) -> None:
    """Nothing that git could take for an option, a pattern or a program."""
    reason = ""
    if made.host.startswith("-") or made.remote.startswith("-"):
        reason = "begins with a dash"
    elif made.ref.startswith("-") or set(made.ref) & set(" ~^:?*[\\+\n\t\0") or ".." in made.ref:
        reason = f"{made.ref!a} is no name of a branch, tag or commit"
    elif not made.remote.isprintable() or "\0" in made.subdir:
        reason = "has control characters"
    elif made.checksum and not (set(made.checksum) <= _HEX and 4 <= len(made.checksum) <= 64):
        reason = f"{made.checksum!a} is not the beginning of a commit's digest"
    if reason:
        raise BuildError(f"git context {_shown(text)}: {reason}")


def authorization(repository: Repository, secret: Callable[[str], str | None]) -> str:
    """The ``Authorization`` header for a repository: of its URL, else of the build's secrets.

    ``secret`` answers the value of ``GIT_AUTH_HEADER``, ``GIT_AUTH_TOKEN`` and
    both with ``.<host>``.  Only for https, and for http on this machine.
    """
    if not repository.origin or not _is_private(repository):
        return ""
    if repository.login:
        return _basic(repository.login if ":" in repository.login else f"{repository.login}:")
    for name in (f"GIT_AUTH_HEADER.{repository.host}", "GIT_AUTH_HEADER"):
        if value := secret(name):
            return value.strip()
    for name in (f"GIT_AUTH_TOKEN.{repository.host}", "GIT_AUTH_TOKEN"):
        if value := secret(name):
            return _basic(f"x-access-token:{value.strip()}")
    return ""


def _is_private(repository: Repository) -> bool:
    local = ("localhost", "127.0.0.1", "::1")
    return repository.origin.startswith("https://") or repository.host in local


def _basic(login: str) -> str:
    from base64 import b64encode

    return f"Basic {b64encode(login.encode()).decode()}"


# --- fetching ----------------------------------------------------------------


def resolve(repository: Repository, home: str, *, header: str = "", agent: str = "") -> str:
    """The commit that a repository's ref is now, without fetching it; empty when nobody says.

    ``home`` is an empty directory for git's configuration.
    """
    if _is_commit(repository.ref):
        return repository.ref
    git = _Git(home, repository, header, agent)
    ref = repository.ref or "HEAD"
    found = {}
    for line in git.run("ls-remote", "--", repository.remote).splitlines():
        commit, _, name = line.partition("\t")
        found[name] = commit
    for name in _candidates(ref):
        if commit := found.get(f"{name}^{{}}") or found.get(name, ""):
            return commit
    return ""


def _candidates(ref: str) -> tuple[str, ...]:
    """The names that a short one may stand for, as git tries them."""
    return ref, f"refs/{ref}", f"refs/tags/{ref}", f"refs/heads/{ref}"


def _is_commit(ref: str) -> bool:
    return len(ref) in (40, 64) and set(ref) <= _HEX


def fetch_git(
    repository: Repository,
    directory: str,
    home: str,
    *,
    keep_git_dir: bool = False,
    header: str = "",
    agent: str = "",
) -> str:
    """Check a repository out into an empty directory; the commit that it was.

    The whole tree, with its submodules; ``subdir`` is the caller's to find.
    ``home`` is another empty directory; ``header`` an ``Authorization`` value for
    the repository's own origin; ``agent`` the socket of an ssh agent.  Unless
    ``keep_git_dir`` or the repository's own query says so, nothing of git stays.
    """
    git = _Git(home, repository, header, agent)
    git.directory = directory
    before = os.umask(0o022)  # the modes of a tree are git's, not the caller's
    try:
        git.run("init", "--quiet", "--template=", directory)
        git.run("config", "remote.origin.url", repository.remote)
        commit = _fetch(git, repository)
        if repository.checksum and not commit.startswith(repository.checksum):
            raise BuildError(
                f"git context {repository.remote!a}: {repository.ref or 'HEAD'} is commit"
                f" {commit}, not {repository.checksum}"
            )
        git.run("checkout", "--quiet", "--force", "--detach", commit)
        if repository.submodules and os.path.lexists(f"{directory}/.gitmodules"):
            _update_submodules(git)
        seconds = int(git.run("log", "-1", "--format=%ct", commit))
        asked = repository.keep_git_dir
        if not (keep_git_dir if asked is None else asked):
            _forget_git(directory)
        if repository.commit_times:
            _set_times(directory, seconds)
    finally:
        os.umask(before)
    return commit


def _fetch(git: _Git, repository: Repository) -> str:
    """Fetch what is wanted, as little as the server allows; the commit."""
    ref = repository.ref or "HEAD"
    try:
        git.run(*_FETCH, "--depth=1", "--", "origin", ref)
    except BuildError as error:
        return _fetch_whole(git, ref, error)
    return git.commit("FETCH_HEAD")


def _fetch_whole(git: _Git, ref: str, failure: BuildError) -> str:
    """With the history: a server may give neither a part of it nor a commit by its digest."""
    is_commit = set(ref) <= _HEX
    try:
        git.run(*_FETCH, "--", "origin", *(_EVERYTHING if is_commit else (ref,)))
        return git.commit(ref if is_commit else "FETCH_HEAD")
    except BuildError:
        raise failure from None


def _update_submodules(git: _Git) -> None:
    update = ("submodule", "--quiet", "update", "--init", "--recursive", "--checkout")
    try:
        git.run(*update, "--depth=1")
    except BuildError:
        git.run(*update)


def _set_times(directory: str, seconds: int) -> None:
    """Give everything in a work tree one time, links and directories too."""
    when = (seconds, seconds)
    for _, directories, names, fd in os.fwalk(directory):
        if _GIT in directories:
            directories.remove(_GIT)
        for name in (*directories, *names):
            os.utime(name, when, dir_fd=fd, follow_symlinks=False)
    os.utime(directory, when)


def _forget_git(directory: str) -> None:
    """Remove all that is called ``.git``: no commit can hold it, so git itself made it."""
    for _, directories, names, fd in os.fwalk(directory):
        if _GIT in names:
            os.unlink(_GIT, dir_fd=fd)
        if _GIT in directories:
            directories.remove(_GIT)
    files.remove_tree(f"{directory}/{_GIT}")


class _Git:
    """The git program with its own home, environment and configuration."""

    def __init__(self, home: str, repository: Repository, header: str, agent: str) -> None:
        self._program = process.find_program("git")
        if not self._program:
            raise HostError("git contexts: no program `git`", hint="install the package git")
        self._shown = ascii(repository.remote)
        self.directory = ""
        self._environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
        self._environment.update(
            HOME=home,
            XDG_CONFIG_HOME=home,
            GIT_CONFIG_NOSYSTEM="1",
            GIT_TERMINAL_PROMPT="0",
            GIT_ASKPASS="/bin/false",
            SSH_ASKPASS="/bin/false",
            GIT_LFS_SKIP_SMUDGE="1",
            LC_ALL="C",
        )
        if repository.foreign:
            self._environment.pop("GIT_SSH", None)
            self._environment["GIT_SSH_COMMAND"] = _SSH_OF_NOBODY
        elif "GIT_SSH" not in self._environment:
            self._environment.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
        if agent:
            self._environment["SSH_AUTH_SOCK"] = agent
        # The user's keys are not for what a stranger's repository names.
        submodules = _NO_SSH if repository.origin else ""
        settings = _CONFIG + submodules + _header(repository, header)
        files.write_atomic(f"{home}/.gitconfig", settings)

    def run(self, *arguments: str) -> str:
        """One git command in :attr:`directory`: its output; its reason as :class:`BuildError`."""
        where: Sequence[str] = ("-C", self.directory) if self.directory else ()
        argv = (self._program, *where, *arguments)
        done = process.run(argv, environment=self._environment)
        if done.code:
            raise BuildError(f"git context {self._shown}: {_reason(done.stderr)}")
        return done.stdout.decode(errors="surrogateescape")

    def commit(self, name: str) -> str:
        """The commit that a name stands for."""
        return self.run("rev-parse", "--verify", f"{name}^{{commit}}").strip()


def _header(repository: Repository, header: str) -> str:
    """The configuration that sends credentials to their own origin and never on a redirect."""
    if not header or not repository.origin:
        return ""
    if not header.isprintable():
        raise BuildError("git credentials: control characters")
    origin, value = _quoted(repository.origin), _quoted(f"Authorization: {header}")
    return f"[http {origin}]\n\textraHeader = {value}\n\tfollowRedirects = false\n"


def _quoted(text: str) -> str:
    """A text without control characters as git's configuration has it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _reason(stderr: bytes) -> str:
    """What git says went wrong: its last words, printable."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines()]
    said = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))] or lines
    if "fatal: Could not read from remote repository." in said:
        said = lines[:2]  # what ssh says comes first
    text = "; ".join(line.removeprefix("fatal: ") for line in said[-3:])
    return "".join(c if c.isprintable() else "?" for c in text) or "git failed"

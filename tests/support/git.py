"""Git repositories made for a test, and a real server of them (``git http-backend``)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from support.fake_registry import Answer, FakeServer, Request

#: What a test's repositories are made with: nothing of the user's own settings.
ENVIRONMENT = {
    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com",
    "GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z",
}  # fmt: skip


class Repository:
    """A repository with a work tree below ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self("init", "-q", "-b", "main")
        self("config", "uploadpack.allowAnySHA1InWant", "true")
        self("config", "protocol.file.allow", "always")

    def __call__(self, *arguments: str | Path) -> str:
        argv = ["git", "-C", self.path, *arguments]
        done = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(
        self, files: dict[str, str] | None = None, links: dict[str, str] | None = None
    ) -> str:
        """Write files and symbolic links, commit everything; the commit's digest."""
        for name, text in (files or {}).items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name, target in (links or {}).items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).symlink_to(target)
        self("add", "-A")
        self("commit", "-q", "--allow-empty", "-m", "change")
        return self("rev-parse", "HEAD")

    @property
    def git_dir(self) -> Path:
        return self.path / ".git"


class GitServer(FakeServer):
    """Serves every repository below a directory: ``<url>/<name>.git``."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def repository(self, name: str) -> Repository:
        made = Repository(self.root / f"{name}-tree")
        (self.root / f"{name}.git").symlink_to(made.git_dir)
        return made

    def require(self, authorization: str) -> None:
        """From now on answer only who sends this."""

        def check(request: Request) -> Answer | None:
            if request.headers.get("authorization") == authorization:
                return None
            return Answer(401, {"WWW-Authenticate": 'Basic realm="git"'})

        self.hooks.append(check)

    def answer(self, request: Request) -> Answer:
        path, _, query = request.path.partition("?")
        environment = {
            **ENVIRONMENT,
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": request.method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
            "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(
            ["git", "http-backend"], env=environment, input=request.body, capture_output=True
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        status = int(headers.pop("Status", "200").split()[0])
        return Answer(status, headers, body)

"""What a transfer tells while it runs; the command line draws it, others need not listen."""

from __future__ import annotations

from podpy.errors import UsageError


class Progress:
    """Told what happens; does nothing with it.  Subclasses show it.

    Methods may be called from any thread, and must return at once.
    ``digest`` names the blob.
    """

    def trying(self, source: str) -> None:
        """An image is being asked for at ``source`` (a whole reference)."""

    def missing(self, name: str) -> None:
        """The image to run is not in the store, and will be pulled."""

    def pulled(self, reference: str, digest: str, *, fresh: bool) -> None:
        """An image is in the store under its name; ``fresh``: it was not that one before."""

    def blob(self, digest: str, size: int, *, present: bool) -> None:
        """A blob belongs to the image; ``present``: nothing needs to be transferred."""

    def advance(self, digest: str, count: int) -> None:
        """``count`` more bytes of a blob are through."""

    def done(self, digest: str) -> None:
        """A blob is complete, verified and stored."""

    def warn(self, text: str) -> None:
        """Something the user should know that does not stop the transfer."""

    def ask(self, question: str, answers: tuple[str, ...]) -> int:
        """The index of the answer the user picks."""
        raise UsageError(
            f"{question} {', '.join(answers)}",
            hint="write the whole name, or make an alias in registries.conf",
        )

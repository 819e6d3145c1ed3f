"""A request that is not taken."""


class Refusal(Exception):  # noqa: N818  a refusal is an answer, not an error of ours
    """The request gets this status and note, and nothing has changed."""

    def __init__(self, status: int, note: str) -> None:
        """Refuse with an HTTP status, and say why."""
        super().__init__(note)
        self.status = status
        self.note = note

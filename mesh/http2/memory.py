"""How much is kept for peers: bytes that were received and not read, or answered and not sent, with a bound on all."""

from __future__ import annotations

import grpc

from mesh.http2.messages import StatusError

__all__ = ["Memory"]


class Memory:
    """So many bytes may be kept.

    Args:
        limit: bytes.
        whole: of which this is a part, with a bound of its own.

    Attributes:
        kept: bytes that are.
    """

    __slots__ = ("_limit", "_whole", "kept")

    def __init__(self, limit: int, whole: Memory | None = None) -> None:
        self._limit = limit
        self._whole = whole
        self.kept = 0

    def keep(self, size: int) -> None:
        """Keep more.

        Raises:
            StatusError: there is no room for it; nothing is kept.
        """
        if self.kept + size > self._limit:
            raise StatusError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"messages under way hold {self.kept} bytes; at most {self._limit} are kept, try again later",
            )
        if self._whole is not None:
            self._whole.keep(size)
        self.kept += size

    def free(self, size: int) -> None:
        """Keep no longer what was kept."""
        self.kept -= size
        if self._whole is not None:
            self._whole.free(size)

"""What was learnt under the lease of a folder, and how long it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from smbmount.vfs.inodes import Inode


class Word(NamedTuple):
    """The word of a folder's lease: what was asked for in its term `term`, which is never 0, holds as long as
    that lasts, and in trio's clock until `until` at the latest: programs on the server itself break no lease.
    """

    folder: Inode
    term: int
    until: float

    @property
    def is_kept(self) -> bool:
        """Whether the server has vouched for the folder without a gap since."""
        return self.folder.vouching == self.term

    def holds_until(self) -> float:
        """The end of its validity in trio's clock, 0 if it was broken."""
        return self.until if self.is_kept else 0.0

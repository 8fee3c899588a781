"""What a folder's listing told, kept for the attributes' time to live.

Programs ask for many names of one folder, often for names that do not exist: a recent listing answers
both without the server.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from engine import FileStat
from smbmount.vfs.names import fold

MAX_ENTRIES: Final = 10_000
"""A listing beyond this is not kept: it would cost more memory and time than it saves."""


class Entry(NamedTuple):
    """One checked name of a listing. `asked` and `fresh_until` are as for `Inode.update`."""

    name: bytes
    smb_name: str
    stat: FileStat
    kind: int
    target: bytes | None
    asked: int
    fresh_until: float


class Listing:
    """The names of a folder as listed at one moment.

    Invariant: a key with None is a name that we have changed since, so only the server knows.
    """

    def __init__(self, entries: Iterable[Entry], *, complete: bool, fresh_until: float) -> None:
        self._entries: dict[str, Entry | None] = {fold(entry.smb_name): entry for entry in entries}
        self._complete = complete
        self.fresh_until = fresh_until

    def find(self, smb_name: str) -> Entry | None:
        """The entry of exactly this name, if the listing had it."""
        entry = self._entries.get(fold(smb_name))
        return entry if entry is not None and entry.smb_name == smb_name else None

    def excludes(self, smb_name: str) -> bool:
        """Whether no such name exists. A tilde may be the short alias of any other name."""
        return self._complete and "~" not in smb_name and fold(smb_name) not in self._entries

    def forget(self, smb_name: str) -> None:
        """The name was created, removed or replaced by us."""
        self._entries[fold(smb_name)] = None

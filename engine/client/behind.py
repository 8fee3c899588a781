"""Files and folders of a tree that links make of several shares, as one file system shows them.

The numbers of one server's files mean nothing beside those of another's. So each share behind a link has its
`Numbers`: what the server says, made one of the whole.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from engine.client.file import File
from engine.client.folder import Folder
from engine.client.leases import Lease
from engine.client.stat import DirectoryEntry, FileStat
from engine.errors import PathNotCovered, SmbError
from engine.wire.constants import FileAttributes
from engine.wire.primitives import Buffer

REPARSE_TAG_DFS: Final = 0x8000000A
"""[MS-FSCC] 2.1.2.1: a link of a namespace, as a listing shows it."""

Told = Callable[[FileStat | None], None]
Inside = Callable[[str], str | None]
"""A path's place in a share, given the one in the whole; None if it is in another share."""


_NO_NUMBERS: Final = frozenset((0, (1 << 64) - 1))
"""How servers say that a file has no number ([MS-FSCC] 2.1.9)."""

MAX_SALT: Final = (1 << 63) - 1
"""The highest bit stays the server's: few use it, and who has files without numbers may give them such."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of one share's files in the whole: those of the server, moved by `salt`, which nobody can
    guess and 0 leaves as they are. They are told while they `hold`: until another server has taken over."""

    salt: int
    hold: Callable[[], bool]

    def shown(self, stat: FileStat) -> FileStat:
        """The attributes as the whole has them: without a number where it is not known whose it would be."""
        if not self.salt:
            return stat
        has_one = stat.file_id not in _NO_NUMBERS and self.hold()
        return replace(stat, file_id=stat.file_id ^ self.salt if has_one else 0)

    def there(self, number: int) -> int:
        """What the server calls a number of the whole."""
        return number ^ self.salt if number else 0


def without_number(stat: FileStat) -> FileStat:
    """The attributes of a link, whose number is not that of what it leads to."""
    return replace(stat, file_id=0)


def crosses(what: str) -> SmbError:
    """The refusal of what would need two servers at once."""
    return SmbError(f"{what}: that is on another server (DFS)", errno=errno.EXDEV)


class FileAmongLinks:
    """An open file. `inside` says where its share has a path of the whole, `below` where it had it, should
    the path be another share's by now."""

    def __init__(self, file: File, inside: Inside, below: Inside, numbers: Numbers) -> None:
        self._file = file
        self._inside = inside
        self._below = below
        self._shown = numbers.shown
        self._has_salt = bool(numbers.salt)
        self.stat = numbers.shown(file.stat)
        self.read_at = file.read_at
        self.write_at = file.write_at
        self.write_and_set_basic = file.write_and_set_basic
        self.flush = file.flush
        self.close = file.close
        self.close_later = file.close_later
        self.truncate = file.truncate
        self.set_basic = file.set_basic

    @property
    def existed(self) -> bool:
        """False if this open created the file."""
        return self._file.existed

    @property
    def is_here(self) -> bool:
        """Whether the handle is one of the present connection."""
        return self._file.is_here

    @property
    def initial_data(self) -> memoryview | None:
        """The file's first bytes, where they came with the open."""
        return self._file.initial_data

    def keep(self, locate: Callable[[], str | None], recognise: Callable[[FileStat, int], bool]) -> None:
        """As `File.keep`, by paths of the whole; behind a link it is the same only by the server's number."""
        number = self._file.stat.file_id

        def find() -> str | None:
            path = locate()
            return None if path is None else self._below(path)

        def is_same(found: FileStat, lost_ns: int) -> bool:
            is_it = found.file_id == number or not self._has_salt
            return is_it and recognise(self._shown(found), lost_ns)

        self._file.keep(find, is_same)

    def close_and_tell(self, on_told: Told, *, details: bool = True) -> None:
        """As `File.close_and_tell`."""

        def tell(stat: FileStat | None) -> None:
            on_told(None if stat is None else self._shown(stat))

        self._file.close_and_tell(tell, details=details)

    async def set_basic_and_close(
        self,
        *,
        access_ns: int | None = None,
        write_ns: int | None = None,
        attributes: FileAttributes | None = None,
        details: bool = True,
    ) -> FileStat | None:
        """As `File.set_basic_and_close`."""
        told = await self._file.set_basic_and_close(
            access_ns=access_ns, write_ns=write_ns, attributes=attributes, details=details
        )
        return None if told is None else self._shown(told)

    def set_times_and_close(
        self,
        on_told: Callable[[FileStat | None, SmbError | None], None],
        *,
        access_ns: int | None = None,
        write_ns: int | None = None,
        details: bool = True,
    ) -> None:
        """As `File.set_times_and_close`."""

        def tell(stat: FileStat | None, error: SmbError | None) -> None:
            on_told(None if stat is None else self._shown(stat), error)

        self._file.set_times_and_close(tell, access_ns=access_ns, write_ns=write_ns, details=details)

    async def truncate_and_stat(self, size: int) -> FileStat:
        """As `File.truncate_and_stat`."""
        return self._shown(await self._file.truncate_and_stat(size))

    async def query(self) -> FileStat:
        """The attributes now."""
        return self._shown(await self._file.query())

    async def link(self, new: str) -> None:
        """Make a hard link; EXDEV if its name is on another server."""
        inside = self._inside(new)
        if inside is None:
            raise crosses(f"link {new}")
        try:
            await self._file.link(inside)
        except PathNotCovered as error:
            raise crosses(f"link {new}") from error

    async def set_ea(self, name: str, value: Buffer) -> None:
        """Set an extended attribute."""
        await self._file.set_ea(name, value)


class FolderWithLinks:
    """An open folder, in whose listing links have no number."""

    def __init__(self, folder: Folder, numbers: Numbers, closed: Callable[[], None]) -> None:
        self.stat = numbers.shown(folder.stat)
        self._folder = folder
        self._numbers = numbers
        self._closed: Callable[[], None] | None = closed

    @property
    def lease(self) -> Lease | None:
        """The lease that it is part of, if the server granted it."""
        return self._folder.lease

    def close_later(self) -> None:
        """Close the handle without waiting for the server; once."""
        self._folder.close_later()
        closed, self._closed = self._closed, None
        if closed is not None:
            closed()

    async def batches(self) -> AsyncGenerator[list[DirectoryEntry], None]:
        """The entries, once."""
        async with aclosing(self._folder.batches()) as batches:
            async for batch in batches:
                yield [self._shown(entry) for entry in batch]

    def _shown(self, entry: DirectoryEntry) -> DirectoryEntry:
        if entry.stat.reparse_tag == REPARSE_TAG_DFS:
            return DirectoryEntry(entry.name, without_number(entry.stat))
        if not self._numbers.salt:
            return entry
        return DirectoryEntry(entry.name, self._numbers.shown(entry.stat))

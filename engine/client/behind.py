"""Files and folders behind a link of a distributed tree, as one file system shows them.

Their numbers mean nothing beside those of other servers, so they have none here: a file's name is its
identity. They are opened without leases, which belong to a share each.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from engine.client.file import File
from engine.client.folder import Folder
from engine.client.leases import Lease
from engine.client.stat import DirectoryEntry, FileStat
from engine.errors import SmbError
from engine.wire.constants import FileAttributes
from engine.wire.primitives import Buffer

REPARSE_TAG_DFS: Final = 0x8000000A
"""[MS-FSCC] 2.1.2.1: a link of a namespace, as a listing shows it."""

Told = Callable[[FileStat | None], None]
Inside = Callable[[str], str | None]
"""A path's place in a share, given the one in the whole; None if it is in another share."""


def without_number(stat: FileStat) -> FileStat:
    """The attributes of a file whose number is another server's."""
    return replace(stat, file_id=0)


def crosses(what: str) -> SmbError:
    """The refusal of what would need two servers at once."""
    return SmbError(f"{what}: that is on another server (DFS)", errno=errno.EXDEV)


class FileBehind:
    """An open file; `inside` says where its share has a path of the whole."""

    def __init__(self, file: File, inside: Inside) -> None:
        self._file = file
        self._inside = inside
        self.stat = without_number(file.stat)
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
        """As `File.keep`, by paths of the whole; the server's number is compared before it is left out."""
        number = self._file.stat.file_id

        def find() -> str | None:
            path = locate()
            return None if path is None else self._inside(path)

        def is_same(found: FileStat, lost_ns: int) -> bool:
            return found.file_id == number and recognise(without_number(found), lost_ns)

        self._file.keep(find, is_same)

    def close_and_tell(self, on_told: Told, *, details: bool = True) -> None:
        """As `File.close_and_tell`."""
        self._file.close_and_tell(_unnumbered(on_told), details=details)

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
        return None if told is None else without_number(told)

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
            on_told(None if stat is None else without_number(stat), error)

        self._file.set_times_and_close(tell, access_ns=access_ns, write_ns=write_ns, details=details)

    async def truncate_and_stat(self, size: int) -> FileStat:
        """As `File.truncate_and_stat`."""
        return without_number(await self._file.truncate_and_stat(size))

    async def query(self) -> FileStat:
        """The attributes now."""
        return without_number(await self._file.query())

    async def link(self, new: str) -> None:
        """Make a hard link; EXDEV if its name is on another server."""
        inside = self._inside(new)
        if inside is None:
            raise crosses(f"link {new}")
        await self._file.link(inside)

    async def set_ea(self, name: str, value: Buffer) -> None:
        """Set an extended attribute."""
        await self._file.set_ea(name, value)


def _unnumbered(on_told: Told) -> Told:
    return lambda stat: on_told(None if stat is None else without_number(stat))


class FolderWithLinks:
    """An open folder, in whose listing links have no number, and nothing has `behind` one."""

    def __init__(self, folder: Folder, *, behind: bool, closed: Callable[[], None]) -> None:
        self.stat = without_number(folder.stat) if behind else folder.stat
        self._folder = folder
        self._behind = behind
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
        if self._behind or entry.stat.reparse_tag == REPARSE_TAG_DFS:
            return DirectoryEntry(entry.name, without_number(entry.stat))
        return entry

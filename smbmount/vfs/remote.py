"""The part of the engine's `Share` and `File` that the file system uses.

Protocols rather than the classes: the tests put an in-memory share in their place.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from engine import (
    Access,
    Buffer,
    CreateOptions,
    DirectoryEntry,
    Disposition,
    FileAttributes,
    FileStat,
    Lease,
    SmbError,
    VolumeSize,
)


class RemoteFile(Protocol):
    """An open file on the server; `engine.File`."""

    @property
    def stat(self) -> FileStat:
        """The attributes as of the open."""

    @property
    def existed(self) -> bool:
        """False if this open created the file."""

    @property
    def is_here(self) -> bool:
        """Whether the handle is one of the present connection."""

    @property
    def initial_data(self) -> memoryview | None:
        """The file's first bytes, where they were asked for and came with the open."""

    async def read_at(self, offset: int, length: int) -> memoryview:
        """Read; short only at the end of the file."""

    async def write_at(self, offset: int, data: Buffer) -> int:
        """Write all of it."""

    async def write_and_set_basic(
        self,
        offset: int,
        data: Buffer,
        *,
        access_ns: int | None = None,
        write_ns: int | None = None,
        attributes: FileAttributes | None = None,
    ) -> SmbError | None:
        """Write all of it, then set times and DOS attributes; returns what the server says to the latter."""

    async def flush(self) -> None:
        """Have the server write to its disk."""

    async def close(self) -> None:
        """Close the handle."""

    def close_and_tell(self, on_told: Callable[[FileStat | None], None], *, details: bool = ...) -> None:
        """Close the handle without waiting; `on_told` gets the attributes that the file then has, None if
        they are not told. Without `details` they may lack the link count and the size of extended ones."""

    async def set_basic_and_close(
        self,
        *,
        access_ns: int | None = None,
        write_ns: int | None = None,
        attributes: FileAttributes | None = None,
        details: bool = ...,
    ) -> FileStat | None:
        """Set times and DOS attributes and close the handle; the attributes as from `close_and_tell`."""

    def set_times_and_close(
        self,
        on_told: Callable[[FileStat | None, SmbError | None], None],
        *,
        access_ns: int | None = None,
        write_ns: int | None = None,
        details: bool = ...,
    ) -> None:
        """The same without waiting; `on_told` also gets the error if the times could not be set."""

    def close_later(self) -> None:
        """Close the handle without waiting for the server."""

    async def truncate(self, size: int) -> None:
        """Set the end of file."""

    async def truncate_and_stat(self, size: int) -> FileStat:
        """Set the end of file; the attributes that the file then has."""

    async def query(self) -> FileStat:
        """The attributes now."""

    async def set_basic(
        self,
        *,
        access_ns: int | None = None,
        write_ns: int | None = None,
        creation_ns: int | None = None,
        change_ns: int | None = None,
        attributes: FileAttributes | None = None,
    ) -> None:
        """Set times and DOS attributes."""

    async def link(self, new: str) -> None:
        """Make a hard link."""

    async def set_ea(self, name: str, value: Buffer) -> None:
        """Set an extended attribute; `b""` removes it."""

    def keep(self, locate: Callable[[], str | None], recognise: Callable[[FileStat, int], bool]) -> None:
        """Say how to find the file again after a lost connection: its present path, and whether it is it."""


class RemoteFolder(Protocol):
    """An open folder on the server; `engine.Folder`."""

    @property
    def stat(self) -> FileStat:
        """The attributes as of the open."""

    @property
    def lease(self) -> Lease | None:
        """The lease that it is part of, if the server granted it."""

    def batches(self) -> AsyncGenerator[list[DirectoryEntry], None]:
        """The entries, once."""

    def close_later(self) -> None:
        """Close the handle without waiting for the server."""


class RemoteShare(Protocol):
    """A connected share; `engine.Share`. Paths use backslashes, "" is the share's root."""

    @property
    def max_read(self) -> int:
        """Bytes per READ."""

    @property
    def max_write(self) -> int:
        """Bytes per WRITE."""

    @property
    def supports_file_ids(self) -> bool:
        """Whether file ids identify files."""

    def upload(self) -> tuple[int, int]:
        """Bytes that were to be sent so far, and how many of them have arrived."""

    def download(self) -> tuple[int, int]:
        """Bytes of data that requests in flight may bring, and how many have arrived so far."""

    @property
    def supports_leases(self) -> bool:
        """Whether the server can vouch for files."""

    @property
    def supports_directory_leases(self) -> bool:
        """Whether the server can vouch for folders."""

    def lease(self, on_break: Callable[[Lease], None]) -> Lease:
        """A lease to open one file with; `on_break` is called as soon as its state was lowered."""

    async def open(
        self,
        path: str,
        *,
        access: Access = ...,
        disposition: Disposition = ...,
        options: CreateOptions = ...,
        attributes: FileAttributes = ...,
        lease: Lease | None = ...,
        read: int = ...,
        details: bool = ...,
    ) -> RemoteFile:
        """Open or create a file, under a lease, and with its first `read` bytes. Without `details`, here
        and below, the link count and the size of the extended attributes may not be told."""

    async def stat(self, path: str, *, details: bool = ...) -> FileStat:
        """The attributes of a path."""

    async def open_folder(self, path: str, *, lease: Lease | None = None) -> RemoteFolder:
        """Open a folder and read its first entries."""

    async def mkdir(self, path: str, *, lease: Lease | None = None) -> FileStat:
        """Make a folder. `lease`, here and below, is not broken by this, nor is the lease of its folder."""

    async def unlink(
        self,
        path: str,
        *,
        aside: str | None = None,
        clear_readonly: bool = False,
        lease: Lease | None = None,
        file_id: int = 0,
    ) -> None:
        """Delete a file, renamed to `aside` first if given; `file_id` says which, if known."""

    async def rmdir(self, path: str, *, lease: Lease | None = None) -> None:
        """Delete an empty folder."""

    async def rename(
        self,
        source: str,
        target: str,
        *,
        replace: bool,
        only_file: bool = False,
        lease: Lease | None = None,
        file_id: int = 0,
    ) -> None:
        """Rename a file, or a folder unless `only_file`: `IsADirectory`."""

    async def link(
        self, existing: str, new: str, *, replace: bool = False, lease: Lease | None = None
    ) -> None:
        """Make a hard link."""

    async def set_basic(
        self,
        path: str,
        *,
        access_ns: int | None = None,
        write_ns: int | None = None,
        creation_ns: int | None = None,
        change_ns: int | None = None,
        attributes: FileAttributes | None = None,
        lease: Lease | None = None,
    ) -> None:
        """Set times and DOS attributes of a path."""

    async def read_file(self, path: str, max_length: int) -> bytes:
        """Open, read from the start, close."""

    async def write_file(
        self, path: str, data: Buffer, *, disposition: Disposition = ..., lease: Lease | None = None
    ) -> FileStat:
        """Create, write, close."""

    async def copy(
        self, source: str, target: str, *, progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Copy a file on the server to a new name; its size."""

    async def volume_size(self) -> VolumeSize:
        """The volume's room."""

    async def list_eas(self, path: str) -> dict[str, bytes]:
        """All extended attributes."""

    async def get_ea(self, path: str, name: str) -> bytes:
        """One extended attribute; `KeyError` if absent."""

    async def set_ea(self, path: str, name: str, value: bytes) -> None:
        """Set an extended attribute; `b""` removes it."""

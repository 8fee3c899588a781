"""Open files and folders of the fake share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

import trio

from engine import (
    Access,
    Buffer,
    DirectoryEntry,
    FileStat,
    Lease,
    SmbError,
    error_from_status,
    ntstatus,
)
from tests.fakes.share_nodes import Node

if TYPE_CHECKING:
    from tests.fakes.share import FakeShare


class FakeFile:
    """An open file, in place of `engine.File`."""

    def __init__(
        self,
        share: FakeShare,
        path: str,
        node: Node,
        access: Access,
        *,
        existed: bool,
        lease: Lease | None = None,
        read: int = 0,
        details: bool = True,
    ) -> None:
        self.path = path
        self.access = access
        self.existed = existed
        self.node = node
        self.closed = False
        self.is_here = True
        self.shares_delete = True
        self.lease = lease
        self.initial_data = memoryview(bytes(node.data[:read])) if read else None
        self._sets_time_at_close = False
        self._share = share
        self.stat = share.told(node, details=details)
        node.opens.append(self)

    def keep(self, locate: Callable[[], str | None], recognise: Callable[[FileStat, int], bool]) -> None:
        """No connection of ours is ever lost."""

    async def read_at(self, offset: int, length: int) -> memoryview:
        """Read; short at the end."""
        await self._enter("read_at", offset, length)
        return memoryview(bytes(self.node.data[offset : offset + length]))

    async def write_at(self, offset: int, data: Buffer) -> int:
        """Write; the bytes take effect when the call ends."""
        await self._enter("write_at", offset, len(data))
        self._write(offset, data)
        return len(data)

    def _write(self, offset: int, data: Buffer) -> None:
        if len(self.node.data) < offset:
            self.node.data.extend(bytes(offset - len(self.node.data)))
        self.node.data[offset : offset + len(data)] = data
        self.node.changed = self._share.tick()
        if not self.node.dated:
            self.node.written = self.node.changed
            self._sets_time_at_close = True
        self._share.changed_file(self.node, self.lease)

    def _set(self, access_ns: int | None, write_ns: int | None, attributes: int | None) -> None:
        self._may_set()
        self._share.apply_basic(self.node, access_ns, write_ns, None, attributes)
        self._share.changed_file(self.node, self.lease)
        self.node.dated = self.node.dated or write_ns is not None
        self._sets_time_at_close = self._sets_time_at_close and write_ns is None

    async def write_and_set_basic(
        self,
        offset: int,
        data: Buffer,
        *,
        access_ns: int | None = None,
        write_ns: int | None = None,
        attributes: int | None = None,
    ) -> SmbError | None:
        """Write, then set times and attributes, unless "set_basic along" is to fail."""
        await self._enter("write_and_set_basic", offset, len(data))
        self._write(offset, data)
        error = self._share.failure("set_basic along")
        if error is None:
            self._set(access_ns, write_ns, attributes)
        return error

    async def flush(self) -> None:
        """Nothing to do but to be counted."""
        await self._enter("flush")

    async def truncate(self, size: int) -> None:
        """Set the size."""
        await self._enter("truncate", size)
        self._share.resize(self.node, size)
        self._share.changed_file(self.node, self.lease)

    async def truncate_and_stat(self, size: int) -> FileStat:
        """Set the size, and tell the attributes."""
        await self.truncate(size)
        return self._share.stat_of(self.node, links=True)

    async def query(self) -> FileStat:
        """The attributes."""
        await self._enter("query")
        return self._share.stat_of(self.node, links=True)

    async def set_basic(
        self,
        *,
        access_ns: int | None = None,
        write_ns: int | None = None,
        creation_ns: int | None = None,
        change_ns: int | None = None,
        attributes: int | None = None,
    ) -> None:
        """Set times and attributes, if it was opened with the right to."""
        await self._enter("set_basic")
        self._may_set()
        self._share.apply_basic(self.node, access_ns, write_ns, creation_ns, attributes)
        self._share.changed_file(self.node, self.lease)
        self.node.dated = self.node.dated or write_ns is not None
        self._sets_time_at_close = self._sets_time_at_close and write_ns is None

    def _may_set(self) -> None:
        if not self.access & Access.WRITE_ATTRIBUTES:
            raise error_from_status(ntstatus.STATUS_ACCESS_DENIED, f"set attributes of {self.path}")

    async def link(self, new: str) -> None:
        """Make a hard link."""
        await self._enter("link", new)
        self._share.add_name(self.node, new)

    async def set_ea(self, name: str, value: Buffer) -> None:
        """Set or remove an extended attribute."""
        await self._enter("set_ea", name)
        self._share.apply_ea(self.node, name, value)

    async def close(self) -> None:
        """Close, and wait for it."""
        await self._share.enter("close", self.path)
        self.close_later()

    def close_and_tell(self, on_told: Callable[[FileStat | None], None], *, details: bool = True) -> None:
        """Close now; the attributes are told once the round trip is over, if this server does."""
        self.close_later()
        told = self._told_at_close(details)

        async def tell() -> None:
            try:
                await self._share.enter("close_and_tell", self.path)
            except SmbError:
                on_told(None)
            else:
                on_told(told)

        trio.lowlevel.spawn_system_task(tell)

    async def set_basic_and_close(
        self,
        *,
        access_ns: int | None = None,
        write_ns: int | None = None,
        attributes: int | None = None,
        details: bool = True,
    ) -> FileStat | None:
        """Set times and attributes, and close whatever becomes of that."""
        try:
            await self._enter("set_basic_and_close")
            self._set(access_ns, write_ns, attributes)
        finally:
            self.close_later()
        return self._told_at_close(details)

    def set_times_and_close(
        self,
        on_told: Callable[[FileStat | None, SmbError | None], None],
        *,
        access_ns: int | None = None,
        write_ns: int | None = None,
        details: bool = True,
    ) -> None:
        """Set times and close now; what becomes of it is told once the round trip is over."""
        error = self._share.failure("set_times_and_close")
        if error is None:
            self._set(access_ns, write_ns, None)
        self.close_later()
        told = self._told_at_close(details)

        async def tell() -> None:
            try:
                await self._share.enter("set_times_and_close", self.path)
            except SmbError as lost:
                on_told(None, lost)
            else:
                on_told(told, error)

        trio.lowlevel.spawn_system_task(tell)

    def _told_at_close(self, details: bool) -> FileStat | None:
        if not details and not self._share.tells_at_close:
            return None
        return self._share.told(self.node, details=details)

    def close_later(self) -> None:
        """Close without waiting."""
        if not self.closed:
            self.closed = True
            if self._sets_time_at_close:
                self.node.written = self._share.tick()
            self.node.opens.remove(self)
            self.node.dated = self.node.dated and bool(self.node.opens)
            if self.lease is not None and not any(other.lease is self.lease for other in self.node.opens):
                self.lease.state = 0
            self._share.finish_delete(self.node)

    async def _enter(self, operation: str, *arguments: object) -> None:
        assert not self.closed, f"{operation} on a closed file"
        await self._share.enter(operation, self.path, *arguments)


class FakeFolder:
    """An open folder, in place of `engine.Folder`: what it had when it was opened."""

    def __init__(self, share: FakeShare, path: str, node: Node, lease: Lease | None) -> None:
        self.path = path
        self.stat = share.stat_of(node, links=False)
        self.lease = lease
        self.closed = False
        self._share = share
        self._node = node
        self._entries = [
            DirectoryEntry(name, share.stat_of(child, links=False)) for name, child in node.children.values()
        ]
        node.listed_by.append(self)

    async def batches(self) -> AsyncGenerator[list[DirectoryEntry], None]:
        """The entries; the first batch is here."""
        for start in range(0, len(self._entries), self._share.batch_size):
            if start:
                assert not self.closed, "a listing goes on in a closed folder"
                await self._share.enter("scandir", self.path)
            yield self._entries[start : start + self._share.batch_size]

    def close_later(self) -> None:
        """Close without waiting."""
        if not self.closed:
            self.closed = True
            self._node.listed_by.remove(self)
            if self.lease is not None and not any(o.lease is self.lease for o in self._node.listed_by):
                self.lease.state = 0

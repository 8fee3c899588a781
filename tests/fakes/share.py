"""A share in memory with the manners of a Windows server, in place of `engine.Share`.

Names compare without case and keep theirs; a deleted file that is open stays, unreachable, until its last
close; open and read-only files are not replaced. A lease is granted in full to the file's only user, and
`break_lease` takes of it as another client would. The close of a file that was written sets its time of
writing, unless that was set through the same open. Every call is in `calls` (one call is one round trip),
can be made to fail (`fail_next`) and can be held up (`hold`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import trio

from engine import (
    Access,
    Buffer,
    CreateOptions,
    DirectoryEntry,
    Disposition,
    FileAttributes,
    FileStat,
    Lease,
    LeaseState,
    SmbError,
    VolumeSize,
    error_from_status,
    ntstatus,
)

_NORMAL = FileAttributes.NORMAL
_NO_OPTIONS = CreateOptions(0)
_READONLY = int(FileAttributes.READONLY)
_SPECIAL = int(FileAttributes.HIDDEN | FileAttributes.SYSTEM)
_FOLDER_LEASE = int(LeaseState.READ_CACHING | LeaseState.HANDLE_CACHING)
_FULL_LEASE = int(LeaseState.READ_CACHING | LeaseState.HANDLE_CACHING | LeaseState.WRITE_CACHING)


class Call(NamedTuple):
    """One round trip: the method and its main arguments."""

    operation: str
    arguments: tuple[object, ...]


class Node:
    """A file or folder on the server."""

    def __init__(self, number: int, now: int, *, is_directory: bool) -> None:
        self.number = number
        self.data = bytearray()
        self.attributes = int(FileAttributes.DIRECTORY if is_directory else FileAttributes.ARCHIVE)
        self.created = self.accessed = self.written = self.changed = now
        self.children: dict[str, tuple[str, Node]] = {}
        self.eas: dict[str, bytes] = {}
        self.opens: list[FakeFile] = []
        self.listed_by: list[FakeFolder] = []
        self.names = 1
        self.delete_pending = False
        self.dated = False
        """Whether its time of writing was set through an open file: then writes leave it alone until the last
        close, as on Samba."""

    @property
    def is_directory(self) -> bool:
        """Whether it is a folder."""
        return bool(self.attributes & FileAttributes.DIRECTORY)

    @property
    def is_kept_open(self) -> bool:
        """Whether a folder is open under a lease."""
        return any(opened.lease is not None for opened in self.listed_by)

    def stat(self, *, links: bool, file_id: bool = True) -> FileStat:
        """Its attributes; `links` as listings do not tell it."""
        size = len(self.data)
        return FileStat(
            file_id=self.number if file_id else 0,
            size=size,
            allocation_size=(size + 4095) // 4096 * 4096,
            attributes=self.attributes,
            creation_ns=self.created,
            access_ns=self.accessed,
            write_ns=self.written,
            change_ns=self.changed,
            number_of_links=self.names if links else 0,
            ea_size=sum(len(name) + len(value) + 9 for name, value in self.eas.items()),
        )


class FakeLease(Lease):
    """A lease, in place of the engine's; `acknowledged` are the states that were acknowledged."""

    def __init__(self, share: FakeShare, on_break: Callable[[Lease], None]) -> None:
        self.state = 0
        self.term = 0
        self.owed = False
        self.folder = None
        self.on_break = on_break
        self.acknowledged: list[int] = []
        self._share = share

    @property
    def needs_acknowledgement(self) -> bool:
        """Whether another client waits."""
        return self.owed

    def grant(self, state: int) -> None:
        """The server vouches for more."""
        self.term += bool(state & ~self.state & LeaseState.READ_CACHING)
        self.state |= state

    async def acknowledge(self) -> None:
        """Tell the server, if it waits."""
        if self.owed:
            self.owed = False
            self.acknowledged.append(self.state)
            await self._share.enter("acknowledge", self.state)


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


class FakeShare:
    """The share. `batch_size` is the entries per batch of a listing."""

    def __init__(
        self,
        *,
        max_io: int = 1 << 20,
        supports_file_ids: bool = True,
        supports_leases: bool = False,
        supports_directory_leases: bool = False,
        batch_size: int = 100,
    ) -> None:
        self.max_read = max_io
        self.max_write = max_io
        self.supports_file_ids = supports_file_ids
        self.supports_leases = supports_leases
        self.supports_directory_leases = supports_directory_leases
        self.batch_size = batch_size
        self.renames_open_folders = False
        """As Samba does, and Windows does not."""
        self.calls: list[Call] = []
        self.watch: Callable[[Call], None] = lambda call: None
        """Called as each round trip begins."""
        self.leases: list[FakeLease] = []
        self.folder_grant = _FOLDER_LEASE
        """What is granted to whoever opens a folder under a lease."""
        self.free_units = 1000
        self.bytes_per_unit = 4096
        self.awaited = 0
        self.arrived = 0
        self.leaves_details_out = True
        self.details_told = 0
        """How often the link count and the size of the extended attributes were told, but by `query`."""
        self.tells_at_close = True
        self.in_flight = 0
        self.most_in_flight = 0
        self._failures: dict[str, list[SmbError | Exception]] = {}
        self._gates: dict[str, trio.Event] = {}
        self.next_number = 100
        self._now = 1_600_000_000 * 10**9
        self.root = self._new_node(is_directory=True)

    # What tests look at and set up.

    def count(self, *operations: str) -> int:
        """The round trips so far, of these operations or of all."""
        return sum(not operations or call.operation in operations for call in self.calls)

    def fail_next(self, operation: str, error: int | Exception, times: int = 1) -> None:
        """Make the next calls of `operation` raise an NTSTATUS or an exception."""
        for _ in range(times):
            made = error_from_status(error, operation) if isinstance(error, int) else error
            self._failures.setdefault(operation, []).append(made)

    @contextmanager
    def hold(self, operation: str) -> Iterator[None]:
        """Calls of `operation` that begin inside the block wait for its end."""
        gate = self._gates[operation] = trio.Event()
        try:
            yield
        finally:
            del self._gates[operation]
            gate.set()

    def put(self, path: str, data: bytes = b"") -> Node:
        """Make or replace a file as another client would, the folders above it too."""
        folder, name = self._make_folders(path)
        node = self._new_node(is_directory=False)
        node.data[:] = data
        folder.children[name.upper()] = (name, node)
        self._changed_folder(folder)
        return node

    def put_folder(self, path: str) -> Node:
        """Make a folder as another client would."""
        folder, name = self._make_folders(path)
        node = self._new_node(is_directory=True)
        folder.children[name.upper()] = (name, node)
        self._changed_folder(folder)
        return node

    def find(self, path: str) -> Node:
        """The node of a path; `NotFound`."""
        return self._walk(path)[2]

    def exists(self, path: str) -> bool:
        """Whether a path leads to something."""
        folder, key = self._split(path)
        return key in folder.children

    def names(self, path: str = "") -> list[str]:
        """The names in a folder, sorted."""
        return sorted(name for name, _ in self.find(path).children.values())

    def remove(self, path: str) -> None:
        """Remove a name as another client would."""
        folder, key = self._split(path)
        del folder.children[key]
        self._changed_folder(folder)

    def open_elsewhere(self, path: str, *, shares_delete: bool = True) -> FakeFile:
        """Another client's open file."""
        file = FakeFile(self, path, self.find(path), Access.READ, existed=True)
        file.shares_delete = shares_delete
        return file

    def break_lease(self, path: str, state: int) -> FakeLease:
        """Another client's access leaves this much of the file's lease."""
        lease = next(file.lease for file in self.find(path).opens if file.lease is not None)
        assert isinstance(lease, FakeLease)
        lease.owed = lease.state & ~int(LeaseState.READ_CACHING) != 0
        lease.state &= state
        lease.on_break(lease)
        return lease

    def take_back(self, node: Node) -> None:
        """The next file made gets the number and times of this one: a quick server with a slow clock."""
        self.next_number, self._now = node.number - 1, node.created - 100

    # What `FakeFile` needs.

    def tick(self) -> int:
        """The server's clock; every look moves it on."""
        self._now += 100
        return self._now

    async def enter(self, operation: str, *arguments: object) -> None:
        """A round trip begins: it is counted, held up and failed as told."""
        self.calls.append(Call(operation, arguments))
        self.watch(self.calls[-1])
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await trio.lowlevel.checkpoint()
            if operation in self._gates:
                await self._gates[operation].wait()
        finally:
            self.in_flight -= 1
        if self._failures.get(operation):
            raise self._failures[operation].pop(0)

    def failure(self, operation: str) -> SmbError | None:
        """The error that a part of a round trip is to fail with."""
        failures = self._failures.get(operation)
        error = failures.pop(0) if failures else None
        assert not isinstance(error, Exception) or isinstance(error, SmbError)
        return error

    def stat_of(self, node: Node, *, links: bool) -> FileStat:
        """A node's attributes as this server tells them."""
        return node.stat(links=links, file_id=self.supports_file_ids)

    def told(self, node: Node, *, details: bool) -> FileStat:
        """What is told of a node to who wants the details, or needs none."""
        stat = self.stat_of(node, links=True)
        if not details and self.leaves_details_out:
            stat.number_of_links, stat.ea_size = 0, None
        else:
            self.details_told += 1
        return stat

    def resize(self, node: Node, size: int) -> None:
        """Cut or extend with zeros; the size that it has is no change."""
        if len(node.data) == size:
            return
        del node.data[size:]
        node.data.extend(bytes(size - len(node.data)))
        node.changed = self.tick()
        if not node.dated:
            node.written = node.changed

    def apply_basic(
        self,
        node: Node,
        access_ns: int | None,
        write_ns: int | None,
        creation_ns: int | None,
        attributes: int | None,
    ) -> None:
        """FileBasicInformation."""
        node.accessed = access_ns if access_ns is not None else node.accessed
        node.written = write_ns if write_ns is not None else node.written
        node.created = creation_ns if creation_ns is not None else node.created
        if attributes:
            kind = node.attributes & FileAttributes.DIRECTORY
            node.attributes = (attributes & ~FileAttributes.NORMAL) | kind
        node.changed = self.tick()

    def changed_file(self, node: Node, lease: Lease | None = None) -> None:
        """A file was changed, by whoever has `lease`: the folders that it is in are different now."""
        for folder in self._folders(self.root):
            if any(child is node for _, child in folder.children.values()):
                self._changed_folder(folder, lease)

    def add_name(self, node: Node, new: str) -> None:
        """FileLinkInformation."""
        folder, key = self._split(new)
        if key in folder.children:
            raise error_from_status(ntstatus.STATUS_OBJECT_NAME_COLLISION, new)
        folder.children[key] = (new.rpartition("\\")[2], node)
        node.names += 1

    def apply_ea(self, node: Node, name: str, value: Buffer) -> None:
        """FileFullEaInformation."""
        for known in [known for known in node.eas if known.upper() == name.upper()]:
            del node.eas[known]
        if value:
            node.eas[name] = bytes(value)

    def finish_delete(self, node: Node) -> None:
        """The last close of a deleted file removes it."""
        if node.delete_pending and not node.opens:
            self._drop_pending(self.root, node)

    # The share's own face.

    def lease(self, on_break: Callable[[Lease], None]) -> Lease:
        """A lease that is not granted yet."""
        self.leases.append(FakeLease(self, on_break))
        return self.leases[-1]

    def upload(self) -> tuple[int, int]:
        """Nothing is ever on its way."""
        return 0, 0

    def download(self) -> tuple[int, int]:
        """As a test sets it: what may come, and what has arrived."""
        return self.awaited, self.arrived

    async def open(
        self,
        path: str,
        *,
        access: Access = Access.READ,
        disposition: Disposition = Disposition.OPEN,
        options: CreateOptions = _NO_OPTIONS,
        attributes: FileAttributes = _NORMAL,
        lease: Lease | None = None,
        read: int = 0,
        details: bool = True,
    ) -> FakeFile:
        """Open or create."""
        await self.enter("open", path, disposition)
        folder, key = self._split(path)
        existed = key in folder.children
        if not existed:
            if disposition in (Disposition.OPEN, Disposition.OVERWRITE):
                raise error_from_status(ntstatus.STATUS_OBJECT_NAME_NOT_FOUND, path)
            node = self._new_node(is_directory=False)
            node.attributes |= attributes & ~_NORMAL
            folder.children[key] = (path.rpartition("\\")[2], node)
            folder.written = folder.changed = self.tick()
            self._changed_folder(folder, lease)
        else:
            node = self._walk(path)[2]
            self._check_open(node, path, access, disposition, options)
            if disposition in (Disposition.OVERWRITE, Disposition.OVERWRITE_IF):
                self.resize(node, 0)
                node.eas.clear()
                node.attributes = int(FileAttributes.ARCHIVE)
                self._changed_folder(folder, lease)
        alone = all(file.lease is lease for file in node.opens)
        if isinstance(lease, FakeLease):
            lease.grant(_FULL_LEASE if alone else int(LeaseState.READ_CACHING))
        return FakeFile(self, path, node, access, existed=existed, lease=lease, read=read, details=details)

    def _check_open(
        self, node: Node, path: str, access: Access, disposition: Disposition, options: CreateOptions
    ) -> None:
        if disposition == Disposition.CREATE:
            raise error_from_status(ntstatus.STATUS_OBJECT_NAME_COLLISION, path)
        if node.is_directory and options & CreateOptions.NON_DIRECTORY_FILE:
            raise error_from_status(ntstatus.STATUS_FILE_IS_A_DIRECTORY, path)
        if node.attributes & _READONLY and access & Access.WRITE_DATA:
            raise error_from_status(ntstatus.STATUS_ACCESS_DENIED, path)
        if disposition in (Disposition.OVERWRITE, Disposition.OVERWRITE_IF) and node.attributes & _SPECIAL:
            raise error_from_status(ntstatus.STATUS_ACCESS_DENIED, path)

    async def stat(self, path: str, *, details: bool = True) -> FileStat:
        """The attributes of a path."""
        await self.enter("stat", path)
        return self.told(self._walk(path)[2], details=details)

    async def open_folder(self, path: str, *, lease: Lease | None = None) -> FakeFolder:
        """Open a folder to list it as it is now."""
        await self.enter("scandir", path)
        node = self._walk(path)[2]
        if isinstance(lease, FakeLease):
            lease.grant(self.folder_grant)
        return FakeFolder(self, path, node, lease)

    async def mkdir(self, path: str, *, lease: Lease | None = None) -> FileStat:
        """Make a folder."""
        await self.enter("mkdir", path)
        folder, key = self._split(path)
        if key in folder.children:
            raise error_from_status(ntstatus.STATUS_OBJECT_NAME_COLLISION, path)
        node = self._new_node(is_directory=True)
        folder.children[key] = (path.rpartition("\\")[2], node)
        folder.written = self.tick()
        self._changed_folder(folder, lease)
        return self.stat_of(node, links=False)

    async def unlink(
        self,
        path: str,
        *,
        aside: str | None = None,
        clear_readonly: bool = False,
        lease: Lease | None = None,
        file_id: int = 0,
    ) -> None:
        """Delete a file."""
        await self.enter("unlink", path, aside)
        folder, key, node = self._walk(path)
        if node.is_directory:
            raise error_from_status(ntstatus.STATUS_FILE_IS_A_DIRECTORY, path)
        self._check_delete(node, path)
        if clear_readonly:
            node.attributes &= ~_READONLY
        if aside is not None:
            self._move(folder, key, aside)
            folder, key = self._split(aside)
        if node.attributes & _READONLY:
            raise error_from_status(ntstatus.STATUS_CANNOT_DELETE, path)
        self._changed_folder(folder, lease)
        if node.opens and node.names == 1:
            node.delete_pending = True
            return
        node.names -= 1
        del folder.children[key]
        folder.written = self.tick()

    async def rmdir(self, path: str, *, lease: Lease | None = None) -> None:
        """Delete an empty folder."""
        await self.enter("rmdir", path)
        folder, key, node = self._walk(path)
        if not node.is_directory:
            raise error_from_status(ntstatus.STATUS_NOT_A_DIRECTORY, path)
        if node.attributes & _READONLY:
            raise error_from_status(ntstatus.STATUS_CANNOT_DELETE, path)
        if node.children:
            raise error_from_status(ntstatus.STATUS_DIRECTORY_NOT_EMPTY, path)
        assert not node.is_kept_open, "a folder that is kept open does not go"
        del folder.children[key]
        self._changed_folder(folder, lease)

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
        """Rename a file or folder."""
        await self.enter("rename", source, target, replace)
        folder, key, node = self._walk(source)
        if only_file and node.is_directory:
            raise error_from_status(ntstatus.STATUS_FILE_IS_A_DIRECTORY, source)
        new_folder, new_key = self._split(target)
        self._check_delete(node, source)
        if not self.renames_open_folders and self._has_open_below(node):
            raise error_from_status(ntstatus.STATUS_ACCESS_DENIED, source)
        replaced = new_folder.children.get(new_key)
        if replaced is not None and replaced[1] is not node:
            if not replace:
                raise error_from_status(ntstatus.STATUS_OBJECT_NAME_COLLISION, target)
            victim = replaced[1]
            if victim.is_directory or victim.opens or victim.attributes & _READONLY:
                raise error_from_status(ntstatus.STATUS_ACCESS_DENIED, target)
            victim.names -= 1
        self._move(folder, key, target)
        for changed in (folder, new_folder):
            self._changed_folder(changed, lease)

    async def link(
        self, existing: str, new: str, *, replace: bool = False, lease: Lease | None = None
    ) -> None:
        """Make a hard link."""
        await self.enter("link", existing, new)
        self.add_name(self._walk(existing)[2], new)
        self._changed_folder(self._split(new)[0], lease)

    async def set_basic(
        self,
        path: str,
        *,
        access_ns: int | None = None,
        write_ns: int | None = None,
        creation_ns: int | None = None,
        change_ns: int | None = None,
        attributes: int | None = None,
        lease: Lease | None = None,
    ) -> None:
        """Set times and attributes of a path."""
        await self.enter("set_basic", path)
        node = self._walk(path)[2]
        self.apply_basic(node, access_ns, write_ns, creation_ns, attributes)
        self.changed_file(node, lease)

    async def read_file(self, path: str, max_length: int) -> bytes:
        """Read from the start."""
        await self.enter("read_file", path)
        return bytes(self._walk(path)[2].data[:max_length])

    async def write_file(
        self,
        path: str,
        data: Buffer,
        *,
        disposition: Disposition = Disposition.CREATE,
        lease: Lease | None = None,
    ) -> FileStat:
        """Make a file with this content."""
        await self.enter("write_file", path)
        folder, key = self._split(path)
        if key in folder.children:
            raise error_from_status(ntstatus.STATUS_OBJECT_NAME_COLLISION, path)
        node = self._new_node(is_directory=False)
        node.data[:] = data
        folder.children[key] = (path.rpartition("\\")[2], node)
        self._changed_folder(folder, lease)
        return self.stat_of(node, links=True)

    async def copy(
        self, source: str, target: str, *, progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Copy a file to a new name; it has its content when the call ends."""
        await self.enter("copy", source, target)
        if self.exists(target):
            raise error_from_status(ntstatus.STATUS_OBJECT_NAME_COLLISION, target)
        data = bytes(self.find(source).data)
        self.put(target, data)
        if progress is not None:
            progress(len(data), len(data))
        return len(data)

    async def volume_size(self) -> VolumeSize:
        """The volume's room."""
        await self.enter("volume_size")
        return VolumeSize(2000, self.free_units + 10, self.free_units, self.bytes_per_unit)

    async def list_eas(self, path: str) -> dict[str, bytes]:
        """All extended attributes."""
        await self.enter("list_eas", path)
        return dict(self._walk(path)[2].eas)

    async def get_ea(self, path: str, name: str) -> bytes:
        """One extended attribute."""
        await self.enter("get_ea", path, name)
        eas = {known.upper(): value for known, value in self._walk(path)[2].eas.items()}
        return eas[name.upper()]

    async def set_ea(self, path: str, name: str, value: bytes) -> None:
        """Set or remove one."""
        await self.enter("set_ea", path, name)
        self.apply_ea(self._walk(path)[2], name, value)

    # The tree.

    def _changed_folder(self, folder: Node, lease: Lease | None = None) -> None:
        """What is in a folder changed: its leases are broken, but for that which the change knew of."""
        known = lease.folder if lease is not None else None
        for held in {id(opened.lease): opened.lease for opened in folder.listed_by}.values():
            if isinstance(held, FakeLease) and held is not known and held.state:
                held.state, held.owed = 0, True
                held.on_break(held)

    def _folders(self, folder: Node) -> Iterator[Node]:
        yield folder
        for _, child in folder.children.values():
            if child.is_directory:
                yield from self._folders(child)

    def _new_node(self, *, is_directory: bool) -> Node:
        self.next_number += 1
        return Node(self.next_number, self.tick(), is_directory=is_directory)

    def _make_folders(self, path: str) -> tuple[Node, str]:
        *folders, name = path.split("\\")
        node = self.root
        for folder in folders:
            if folder.upper() not in node.children:
                node.children[folder.upper()] = (folder, self._new_node(is_directory=True))
            node = node.children[folder.upper()][1]
        return node, name

    def _split(self, path: str) -> tuple[Node, str]:
        """The folder that holds the path's last part, and that part's key."""
        *folders, name = path.split("\\")
        node = self.root
        for folder in folders:
            if folder.upper() not in node.children:
                raise error_from_status(ntstatus.STATUS_OBJECT_PATH_NOT_FOUND, path)
            node = node.children[folder.upper()][1]
        return node, name.upper()

    def _walk(self, path: str) -> tuple[Node, str, Node]:
        if not path:
            return self.root, "", self.root
        folder, key = self._split(path)
        if key not in folder.children:
            raise error_from_status(ntstatus.STATUS_OBJECT_NAME_NOT_FOUND, path)
        node = folder.children[key][1]
        if node.delete_pending:
            raise error_from_status(ntstatus.STATUS_DELETE_PENDING, path)
        return folder, key, node

    def _check_delete(self, node: Node, path: str) -> None:
        if not all(file.shares_delete for file in node.opens):
            raise error_from_status(ntstatus.STATUS_SHARING_VIOLATION, path)

    def _has_open_below(self, node: Node) -> bool:
        if node.is_kept_open:
            return True
        return any(child.opens or self._has_open_below(child) for _, child in node.children.values())

    def _move(self, folder: Node, key: str, target: str) -> None:
        _, node = folder.children.pop(key)
        new_folder, new_key = self._split(target)
        new_folder.children[new_key] = (target.rpartition("\\")[2], node)
        folder.written = new_folder.written = self.tick()

    def _drop_pending(self, folder: Node, node: Node) -> None:
        for key, (_, child) in list(folder.children.items()):
            if child is node:
                del folder.children[key]
            else:
                self._drop_pending(child, node)

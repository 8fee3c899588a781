"""A share in memory with the manners of a Windows server, in place of `engine.Share`.

Names compare without case and keep theirs; a deleted file that is open stays, unreachable, until its last
close; open and read-only files are not replaced. A lease is granted in full to the file's only user, and
`break_lease` takes of it as another client would. The close of a file that was written sets its time of
writing, unless that was set through the same open. Every call is in `calls` (one call is one round trip),
can be made to fail (`fail_next`) and can be held up (`hold`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import trio

from engine import (
    Access,
    Buffer,
    CreateOptions,
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
from tests.fakes.share_files import FakeFile, FakeFolder
from tests.fakes.share_nodes import FakeLease, Node, NodeTree

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


class FakeShare(NodeTree):
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
        super().__init__()
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

    # What `FakeFile` needs.

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

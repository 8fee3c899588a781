"""Open files: open, create, read, write, flush, fsync, release, and their sizes."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from mmap import PAGESIZE

import trio

from engine import Access, CreateOptions, Disposition, SmbError
from smbmount.vfs.attributes import DIRECTORY, FILE, Attributes, attributes_for_new, storable_ns
from smbmount.vfs.core import Answer, Core
from smbmount.vfs.errors import PosixError
from smbmount.vfs.handles import FileHandle
from smbmount.vfs.inodes import Inode
from smbmount.vfs.moves import uses_path
from smbmount.vfs.opening import Opening, stat_opened, truncate_opened
from smbmount.vfs.readahead import ReadAhead
from smbmount.vfs.remote import RemoteFile
from smbmount.vfs.writebehind import WriteBehind

log = logging.getLogger(__name__)


@dataclass(slots=True)
class OpenedFile:
    """The reply to open: the handle, whether the kernel goes around its page cache, or keeps it."""

    number: int
    direct_io: bool
    keep_cache: bool


class Files:
    """The operations on open files."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.opening = Opening(core)
        share, config = core.share, core.config
        self._read_chunk = min(share.max_read, config.max_read or share.max_read)
        self._write_chunk = min(share.max_write, config.max_write or share.max_write)
        self._writes_through = config.cache == "none"
        self.on_open: Callable[[Inode, bool], None] = lambda inode, foreseen: None
        """Called when a program opens a file to read; and whether that was foreseen, and costs nothing."""
        self._late: set[FileHandle] = set()
        """Released, but their data is still under way; whoever takes one out reports its error."""

    async def open(self, number: int, flags: int) -> OpenedFile:
        """Open an inode with the flags of open(2). `PosixError` ESTALE if its name is another file's now."""
        core = self._core
        inode = core.inodes[number]
        if inode.kind != FILE:
            raise PosixError(errno.EISDIR if inode.kind == DIRECTORY else errno.ELOOP)
        truncate = bool(flags & os.O_TRUNC)
        access = _access(flags)
        if access & Access.WRITE_DATA:
            core.require_writable()
        if truncate:
            await self._drain(inode)
        if inode.names:
            await core.wait_for_replacement(inode.names[-1].parent, inode.names[-1].name)
        if not truncate and access & Access.READ_DATA:
            self.on_open(inode, any(parked.named_until > core.now() for parked in inode.idle))
        is_first = not inode.handles and not inode.idle
        parked = None if truncate else await self.opening.take_idle(inode, access)
        if parked is not None:
            file, content = parked.file, parked.content
        else:
            with core.downloads.waiting():
                file, content = await self.opening.by_name(inode, access, truncate)
        if is_first:
            inode.dated = False
        known = inode.knowledge
        await self._tell_kernel(inode, number, file)
        opened = self._opened(inode, file, flags, content if inode.knowledge == known else None)
        if truncate:
            core.files[opened.number].wrote = True
            self._truncated(inode, file)
        return opened

    @uses_path
    async def create(
        self, parent_number: int, name: bytes, mode: int, flags: int
    ) -> tuple[OpenedFile, Attributes]:
        """Create and open a file; with O_EXCL only if the name is free, else what is there is opened.

        `PosixError` ESTALE if that is a symbolic link, which the kernel does not know of: it looks up again.
        """
        core = self._core
        core.require_writable()
        parent = core.folder(parent_number)
        smb_name = core.names.encode(name)
        exclusive = bool(flags & os.O_EXCL)
        made: Inode | None = None
        lease, word = core.leases.of_new(parent, lambda: made), core.folder_leases.word(parent)
        with core.creating(parent, name):
            asked, asked_at = core.inodes.tick, core.now()
            file = await core.share.open(
                core.inodes.child_path(parent, smb_name),
                access=_access(flags),
                disposition=Disposition.CREATE if exclusive else Disposition.OPEN_IF,
                options=CreateOptions.NON_DIRECTORY_FILE,
                attributes=attributes_for_new(mode),
                lease=lease,
                details=False,
            )
            stat = file.stat
            truncate = file.existed and bool(flags & os.O_TRUNC)
            if file.existed:
                await self.opening.check_kind(file, core.inodes.child_path(parent, smb_name))
            if truncate:
                stat = await truncate_opened(file)
                asked = core.inodes.tick
            if file.existed:
                # Another client has made it since it was looked up.
                stat = await stat_opened(file)
        if file.existed:
            dentry = core.adopt(parent, name, smb_name, Answer(stat, FILE, None, asked, asked_at, word))
        else:
            answer = Answer(stat, FILE, None, core.inodes.tick, asked_at, word)
            dentry = core.adopt_new(parent, name, smb_name, answer)
        made = dentry.inode
        core.keep(made, file)
        if made.lease is None:
            made.lease = lease
            made.vouch(made.vouching, asked_at)
        opened = self._opened(made, file, flags)
        if truncate or not file.existed:
            # Through an open file that only reads no times can be set, now or with its close.
            core.files[opened.number].wrote = core.files[opened.number].writable
        if truncate:
            self._truncated(made, file)
        return opened, core.reply_entry(dentry)

    async def _tell_kernel(self, inode: Inode, number: int, file: RemoteFile) -> None:
        """Have the kernel ask anew where it was told something else: it is to see the file as it is."""
        if inode.told == inode.content_version:
            return
        try:
            await self._core.kernel.invalidate(number, pages=False)
        except BaseException:
            file.close_later()
            raise

    def _opened(
        self, inode: Inode, file: RemoteFile, flags: int, content: memoryview | None = None
    ) -> OpenedFile:
        core = self._core
        access = _access(flags)
        readable, writable = bool(access & Access.READ_DATA), bool(access & Access.WRITE_DATA)
        direct = self._writes_through or bool(flags & os.O_DIRECT)
        readahead = None
        if readable and not direct:
            readahead = ReadAhead(file, core.read_budget, core.spawn, chunk=self._read_chunk)
        # Who only writes has no use for cached pages: without them the kernel saves a copy, and the question
        # for security.capability that it asks before each cached write.
        direct_io = self._writes_through or not readable
        handle = FileHandle(
            inode,
            file,
            writable=writable,
            append=bool(flags & os.O_APPEND),
            direct=direct,
            # Behind other writes the kernel asks for fsync itself.
            syncs=direct_io and bool(flags & os.O_DSYNC),
            readahead=readahead,
            content=None if direct else content,
        )
        keep_cache = not direct_io and self._keep_pages(inode)
        handle.number = core.files.add(handle)
        inode.handles.append(handle)
        return OpenedFile(handle.number, direct_io, keep_cache)

    def _keep_pages(self, inode: Inode) -> bool:
        """Whether the kernel may go on using what it has cached of a file; from here on it caches it."""
        term = inode.vouching
        keep = term != 0 and inode.pages_term == term
        if not inode.handles:
            # Else another open file may be reading what it asked for before the server vouched.
            inode.pages_term = term
        unchanged = inode.pages == inode.content_version
        inode.pages = inode.content_version
        return keep or (self._core.config.cache == "loose" and unchanged)

    async def read(self, number: int, offset: int, length: int) -> memoryview | bytes:
        """Up to `length` bytes at `offset`; fewer only at the end of the file."""
        handle = self._core.files[number]
        inode = handle.inode
        if handle.content is not None and inode.content_validity(self._core.now()):
            return handle.content[offset : offset + length]
        writes, end = inode.writes, offset + length
        if writes is not None and inode.is_dirty and end > min(inode.clean_size, writes.lowest_offset()):
            await writes.drain()
        size = inode.stat.size
        if writes is not None and inode.is_dirty:
            # What is fetched ahead now, behind the first unwritten byte, would be outdated when it is read.
            size = min(size, writes.lowest_offset())
        with self._core.downloads.waiting():
            if handle.readahead is None or (inode.is_dirty and end > size):
                return await handle.file.read_at(offset, length)
            return await handle.readahead.read(offset, length, size)

    async def write(self, number: int, offset: int, data: bytes) -> int:
        """Take `data` over, or write it through; the number of bytes. An earlier error of this open file is
        reported first. Files open with O_APPEND are written at their end as known here; of those open with
        O_SYNC or O_DSYNC the data is on the server's disk then."""
        written = await self._write(number, offset, data)
        handle = self._core.files[number]
        handle.inode.kernel_size = max(handle.inode.kernel_size, offset + written)
        if handle.syncs:
            await self.fsync(number)
        return written

    async def _write(self, number: int, offset: int, data: bytes) -> int:
        handle = self._core.files[number]
        inode = handle.inode
        await self._report(handle)
        if not handle.writable:
            raise PosixError(errno.EBADF)
        appends = handle.append and not _is_of_map(inode, offset, len(data))
        if appends and not inode.is_dirty and not inode.is_fresh(self._core.now()):
            await self._core.refresh(inode)
        if handle.direct:
            await self._drain(inode)
            offset = inode.stat.size if appends else offset
            self._wrote(handle, offset + len(data))
            try:
                await handle.file.write_at(offset, data)
            except BaseException:
                # The size above is not the server's: the next append would leave a hole.
                inode.expire()
                raise
            self._wrote(handle, offset + len(data))
            return len(data)
        if inode.writes is None:
            inode.writes = self._new_writes(inode)
        await inode.writes.wait_for_room(len(data))
        await self._report(handle)
        offset = inode.stat.size if appends else offset
        inode.writes.add(handle, offset, data)
        self._wrote(handle, offset + len(data))
        return len(data)

    def _new_writes(self, inode: Inode) -> WriteBehind:
        core = self._core

        def on_settled(failed: bool) -> None:
            # What was asked before may have been answered before the data came.
            core.inodes.touch(inode)
            if failed:
                inode.expire()

        return WriteBehind(
            core.write_budget,
            core.spawn,
            chunk=self._write_chunk,
            on_settled=on_settled,
            upload=core.share.upload,
        )

    def _wrote(self, handle: FileHandle, end: int) -> None:
        inode = handle.inode
        handle.wrote = True
        inode.stat.size = max(inode.stat.size, end)
        self._changed_content(inode)
        self._core.inodes.touch(inode)
        inode.drop_readahead()
        if handle.readahead is None:
            # It goes around the kernel's pages, which may now be older than the file.
            inode.pages_term = 0

    def _changed_content(self, inode: Inode, *, same_size: bool = False) -> None:
        """We have changed it. Servers take truncating to the size that a file has for no change."""
        inode.stale = inode.unsynced = True
        inode.written_ns = storable_ns(time.time_ns()) if inode.dated or same_size else None

    def _truncated(self, inode: Inode, file: RemoteFile) -> None:
        """A file was truncated by its open."""
        inode.kernel_size = 0
        if inode.dated or file.stat.size == 0:
            self._changed_content(inode, same_size=True)

    async def _date(self, handle: FileHandle) -> None:
        """Tell the server when a file was written, if it does not date writes any more."""
        inode, written_ns = handle.inode, handle.inode.written_ns
        if written_ns is None or not handle.writable:
            return
        inode.written_ns = None
        with inode.dated_as(written_ns):
            await handle.file.set_basic(write_ns=written_ns)
        self._core.inodes.touch(inode)
        inode.expire()

    async def truncate(self, inode: Inode, size: int, number: int | None) -> None:
        """Set a file's size, through the open file `number` or another that may write, else by its name, in
        two round trips; `PosixError` ESTALE if that is another file's now."""
        core = self._core
        await self._drain(inode)
        handle = core.files[number] if number is not None else None
        if handle is None or not handle.writable:
            handle = next((other for other in inode.handles if other.writable), None)
        same_size = handle is not None and inode.stat.size == size
        try:
            with inode.resized(size):
                if handle is not None:
                    handle.wrote = True
                    await handle.file.truncate(size)
                else:
                    # The file that has the name now would lose its content if it were another.
                    async with self.opening.checked(
                        inode, Access.WRITE_DATA | Access.WRITE_ATTRIBUTES
                    ) as file:
                        await file.truncate(size)
                        if inode.dated or file.stat.size == size:
                            await file.set_basic(write_ns=storable_ns(time.time_ns()))
        except BaseException:
            inode.expire()
            raise
        finally:
            core.inodes.touch(inode)
            inode.drop_readahead()
        inode.stat.size = inode.clean_size = size
        inode.stat.allocation_size = min(inode.stat.allocation_size, size)
        self._changed_content(inode, same_size=same_size)
        if handle is None:
            inode.written_ns = None

    async def flush(self, number: int) -> None:
        """Called at each close(2): write what is unwritten, and report this open file's error."""
        handle = self._core.files[number]
        if handle.wrote:
            await self._drain(handle.inode)
            await self._date(handle)
        handle.raise_error()

    async def fsync(self, number: int) -> None:
        """Write what is unwritten, report this open file's error, and have the server write to its disk.

        Servers do that only for a handle that may write. Where there is none the file is opened anew; it is
        an error if that is refused. `PosixError` ESTALE if it has another name by then, unless nothing is
        known to have been written here: what other clients wrote is theirs to have on the disk.
        """
        handle = self._core.files[number]
        inode = handle.inode
        await self._drain(inode)
        await inode.wait_for_closes()
        handle.raise_error()
        if not handle.writable:
            handle = next((other for other in inode.handles if other.writable), handle)
        if handle.writable:
            await self._flush_on_server(inode, handle.file)
        elif not inode.unlinked and not self._core.config.read_only:
            try:
                async with self.opening.checked(inode, Access.WRITE_DATA) as file:
                    await self._flush_on_server(inode, file)
            except PosixError as error:
                if error.errno != errno.ESTALE or inode.unsynced:
                    raise

    async def _flush_on_server(self, inode: Inode, file: RemoteFile) -> None:
        unsynced, inode.unsynced = inode.unsynced, False
        try:
            await file.flush()
        except BaseException:
            inode.unsynced |= unsynced
            raise

    async def release(self, number: int) -> None:
        """The last close of an open file. Nobody hears of errors any more, so they are logged."""
        handle = self._core.files.remove(number)
        closed = trio.Event()
        handle.inode.closing += (closed,)
        try:
            await self._settle(handle)
        except (SmbError, OSError) as exc:
            log.error("data written to %r is lost: %s", handle.inode, exc)
        except trio.Cancelled:
            self._late.add(handle)
            self._core.spawn(self._release_late, handle, closed)
            raise
        self._close(handle, closed)

    async def _release_late(self, handle: FileHandle, closed: trio.Event) -> None:
        """The rest of a release that was given up: without the server's handle its data would be lost."""
        try:
            await self._drain(handle.inode)
            error = handle.take_error() if handle in self._late else None
            if error is not None:
                log.error("data written to %r is lost: %s", handle.inode, error)
        finally:
            self._late.discard(handle)
            self._core.inodes.discard_if_unused(handle.inode)
            self._close(handle, closed)

    def _close(self, handle: FileHandle, closed: trio.Event) -> None:
        """Keep the server's handle for the next open, or close it without waiting. Of a file that was
        written the times are final only then, so whoever needs them waits for `closed`."""
        core, inode = self._core, handle.inode
        if handle.wrote and not inode.unlinked:
            # As long as another handle is open, Samba tells the time of writing as it was before.
            core.idle.close(inode)
            core.late.add(inode, handle.file, closed)
            return
        readable, named = handle.readahead is not None, bool(inode.names)
        if not (
            readable
            and named
            and core.idle.park(inode, handle.file, writable=handle.writable, content=handle.content)
        ):
            handle.file.close_later()
        inode.closing = tuple(event for event in inode.closing if event is not closed)
        closed.set()

    async def _settle(self, handle: FileHandle) -> None:
        """Have nothing under way for an open file any more; raises an error that was not reported."""
        inode = handle.inode
        try:
            if handle.wrote:
                await self._drain(inode)
                await self._date(handle)
            if handle.readahead is not None:
                await handle.readahead.close()
        finally:
            inode.handles.remove(handle)
            self._core.inodes.discard_if_unused(inode)
        handle.raise_error()

    async def close_all(self) -> None:
        """Write everything, then close every open file; raises the first error that nobody was told."""
        errors: list[SmbError | OSError] = []
        self._core.write_budget.push_all()
        for handle in self._core.files.all():
            self._core.files.remove(handle.number)
            try:
                await self._settle(handle)
                await handle.file.close()
            except (SmbError, OSError) as exc:
                errors.append(exc)
        self._core.idle.close_all()
        times_error = await self._core.late.finish()
        if times_error is not None:
            errors.append(times_error)
        late, self._late = self._late, set()
        for handle in late:
            await self._drain(handle.inode)
            error = handle.take_error()
            if error is not None:
                errors.append(error)
        if errors:
            raise errors[0]

    async def _report(self, handle: FileHandle) -> None:
        """Raise the error of an open file, if there is one, for all that it has written so far."""
        if handle.failed:
            await self._drain(handle.inode)
        handle.raise_error()

    async def _drain(self, inode: Inode) -> None:
        if inode.writes is not None and inode.is_dirty:
            await inode.writes.drain()


def _access(flags: int) -> Access:
    """What an open for these flags of open(2) asks of the server: no more, it might be refused."""
    mode = flags & os.O_ACCMODE
    access = Access(0)
    if mode != os.O_WRONLY:
        access |= Access.READ
    if mode != os.O_RDONLY or flags & os.O_TRUNC:
        access |= Access.WRITE
    return access


def _is_of_map(inode: Inode, offset: int, length: int) -> bool:
    """Whether the kernel writes out pages of a memory map, which have their place also in a file that is open
    with O_APPEND: it writes them through any open file, and does not say so. But what programs append begins
    at what the kernel takes for the end."""
    if offset % PAGESIZE or offset + length > inode.kernel_size:
        return False
    return any(handle.writable and handle.readahead is not None for handle in inode.handles)

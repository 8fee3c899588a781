"""An open file: reads and writes at offsets, attributes, renaming, locks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

from engine import ntstatus
from engine.client import payload
from engine.client.attributes import SetInfo, basic_information, check_target, set_info
from engine.client.extended_attributes import setting_ea
from engine.client.keeping import Keeping, decode_all, query_all
from engine.client.leases import Lease
from engine.client.stat import FileStat, stat_at_close
from engine.client.telling import Telling
from engine.client.tree import Tree
from engine.errors import (
    NtStatusError,
    RemoteProtocolError,
    SmbError,
    TransportError,
    error_from_status,
)
from engine.proto.inflight import Reply, Request
from engine.wire.constants import CloseFlags, IoctlFlags, LockFlags
from engine.wire.create import CloseRequest, CloseResponse
from engine.wire.fscc_control import (
    AllocatedRange,
    SetZeroDataRequest,
    decode_allocated_ranges_untrusted,
    encode_allocated_ranges,
)
from engine.wire.fscc_set import (
    FileDispositionInformation,
    FileEndOfFileInformation,
    FileLinkInformation,
    FileRenameInformation,
)
from engine.wire.io import (
    FlushRequest,
    FlushResponse,
    IoctlRequest,
    IoctlResponse,
    LockElement,
    LockRequest,
    LockResponse,
    WriteRequest,
    WriteResponse,
)
from engine.wire.ioctl import FsctlCode
from engine.wire.primitives import Buffer, FileId

log = logging.getLogger(__name__)

_RANGES_ROOM: Final = 65536


class File:
    """An open handle on the server; close it, or use it as an async context manager.

    Every method raises `NtStatusError` if the server refuses, `TransportError` if it is gone.
    """

    def __init__(
        self,
        tree: Tree,
        keeping: Keeping,
        stat: FileStat,
        telling: Telling,
        *,
        existed: bool,
        max_read: int,
        max_write: int,
        lease: Lease | None = None,
        initial_data: memoryview | None = None,
    ) -> None:
        self.stat = stat
        """As of the open."""
        self.access = keeping.access
        self.existed = existed
        """False if this open created the file."""
        self.lease = lease
        """The lease that the server made this file part of, if it did."""
        self.initial_data = initial_data
        """What was read with the open, from offset 0 on: fewer bytes than asked for at the end of the file
        and where the server gives fewer. None if nothing was read. A view into the buffer that it was
        received in, which it keeps from being used again: set it to None when it is done with."""
        self.handle = keeping.handle
        self._keeping = keeping
        self._tree = tree
        self._telling = telling
        self._max_read = max_read
        self._max_write = max_write
        self._closed = False

    @property
    def path(self) -> str:
        """The path that it was opened by."""
        return self.handle.path

    @property
    def file_id(self) -> FileId:
        """What the server knows the handle by, on the present connection."""
        return self.handle.file_id

    def keep(self, locate: Callable[[], str | None], recognise: Callable[[FileStat, int], bool]) -> None:
        """Say how the file is found again should the server have forgotten it after a lost connection.

        `locate` tells its present path, None if it has none; `recognise` whether what was found there is the
        same file, unchanged. Without this it is the path of the open, and the attributes as of then.
        """
        self._keeping.locate, self._keeping.recognise = locate, recognise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            self.close_later()

    async def read_at(self, offset: int, length: int) -> memoryview:
        """Read up to `length` bytes at `offset`; fewer only at the end of the file, none behind it."""
        return await payload.read(
            self._tree, self.handle, offset, length, self._max_read, f"read {self.path}"
        )

    async def write_at(self, offset: int, data: Buffer) -> int:
        """Write all of `data` at `offset`; returns its length."""
        self._keeping.changed = True
        return await payload.write(
            self._tree, self.handle, offset, data, self._max_write, f"write {self.path}"
        )

    async def flush(self) -> None:
        """Have the server put everything written on its disk."""
        request = FlushRequest(file_id=self.file_id)
        await self._tree.call(request, FlushResponse, f"flush {self.path}", self.handle)

    async def close(self) -> None:
        """Close the handle; a second call does nothing.

        Where a lost connection is brought back that is no reason to wait: the handle ends with it.
        """
        if self._closed:
            return
        self._end()
        if not self.is_here:
            return
        request, connection = CloseRequest(file_id=self.file_id), self._tree.connection
        what = f"close {self.path}"
        try:
            await self._tree.exchange(request, what=what, urgent=True, handle=self.handle, once=True)
        except BaseException as error:
            if not isinstance(error, SmbError) or self._tree.link is None or not connection.lost.is_set():
                self._ended()
                raise
        else:
            self._ended()

    def _end(self) -> None:
        """Nobody uses it any more. What the server keeps it is told of, on the next connection if need be."""
        self._closed = True
        self._keeping.end()
        if self.handle.is_durable and self.handle in self._tree.handles:
            self.handle.is_forsaken = True
        else:
            self._ended()

    def _answered(self, replies: Sequence[Reply] | None) -> None:
        if replies is not None:
            self._ended()

    def _ended(self) -> None:
        self._keeping.end()
        self._tree.handles.discard(self.handle)

    @property
    def is_here(self) -> bool:
        """Whether the handle is one of the present connection."""
        return self.handle.epoch == self._tree.epoch and not (
            self._tree.link is not None and self._tree.connection.lost.is_set()
        )

    async def close_and_stat(self) -> FileStat:
        """Close the handle and return the attributes that the file then has, in one round trip."""
        self._closed = True
        requests = query_all(self.file_id), self._close_telling()
        try:
            query, closed = await self._tree.exchange(
                *requests, what=f"close {self.path}", handle=self.handle
            )
        finally:
            self._ended()
        stat = decode_all(query.message)
        return stat_at_close(stat, CloseResponse.decode_untrusted(closed.message)) or stat

    def close_and_tell(self, on_told: Callable[[FileStat | None], None], *, details: bool = True) -> None:
        """Close the handle without waiting for the server, and pass on the attributes that the file then has.

        Without `details` they come without those of `FileStat`, unless it takes a question to get any.
        `on_told` is called in the step in which the reply is here, and must not wait or raise; with None if
        the server tells nothing, which happens once, or the connection is lost.
        """
        self._end()
        if self.handle.epoch != self._tree.epoch:
            on_told(None)
            return
        requests = self._closing(details)

        def take(replies: Sequence[Reply] | None) -> None:
            self._answered(replies)
            on_told(self._told_untrusted(replies) if replies is not None else None)

        self._tree.connection.send_later(requests, self._tree.batch, take)

    async def write_and_set_basic(
        self,
        offset: int,
        data: Buffer,
        *,
        access_ns: int | None = None,
        write_ns: int | None = None,
        attributes: int | None = None,
    ) -> SmbError | None:
        """Write all of `data` at `offset`, then set times and attributes, in one round trip where that fits.

        Returns what the server says to the change, None if it was made. A failed write is raised; whether
        the change was made is unknown then.
        """
        change = basic_information(access_ns, write_ns, None, None, attributes)
        setting = f"set attributes of {self.path}"
        written = 0
        self._keeping.changed = True
        if len(data) <= min(self._max_write, self._tree.connection.room_beside(1)):
            write = WriteRequest(data=data, offset=offset, file_id=self.file_id)
            replies = await self._tree.exchange(
                write,
                set_info(change, self.file_id),
                what=f"write {self.path}",
                required=1,
                handle=self.handle,
            )
            written = WriteResponse.decode_untrusted(replies[0].message).count
            if written > len(data):
                raise RemoteProtocolError(
                    f"the server says it took {written} of the {len(data)} bytes of {self.path}"
                )
            status = replies[1].header.status
            if written == len(data):
                is_made = status == ntstatus.STATUS_SUCCESS
                return None if is_made else error_from_status(status, setting)
        await self.write_at(offset + written, memoryview(data)[written:])
        try:
            await self._set(change, setting)
        except NtStatusError as error:
            return error
        return None

    async def set_basic_and_close(
        self,
        *,
        access_ns: int | None = None,
        write_ns: int | None = None,
        attributes: int | None = None,
        details: bool = True,
    ) -> FileStat | None:
        """As `set_basic`, then close the handle, in one round trip; the attributes as from `close_and_tell`.

        If they cannot be set that is raised, and the handle is closed all the same.
        """
        self._closed = True
        self._keeping.changed = True
        change = set_info(basic_information(access_ns, write_ns, None, None, attributes), self.file_id)
        try:
            replies = await self._tree.exchange(
                change,
                *self._closing(details),
                what=f"set attributes of {self.path}",
                required=1,
                handle=self.handle,
            )
        finally:
            self._ended()
        return self._told_untrusted(replies[1:])

    def set_times_and_close(
        self,
        on_told: Callable[[FileStat | None, SmbError | None], None],
        *,
        access_ns: int | None = None,
        write_ns: int | None = None,
        details: bool = True,
    ) -> None:
        """As `set_basic_and_close`, without waiting for the server.

        `on_told` is called as by `close_and_tell`, with the attributes and what became of the change: None
        if it was made, the server's refusal, or `TransportError` if the connection was lost.
        """
        what = f"set times of {self.path}"
        lost = TransportError(f"{what}: the connection was lost before the server answered")
        is_here = self.is_here
        self._end()
        if not is_here:
            on_told(None, lost)
            return
        change = set_info(basic_information(access_ns, write_ns, None, None, None), self.file_id)

        def take(replies: Sequence[Reply] | None) -> None:
            self._answered(replies)
            if replies is None:
                on_told(None, lost)
                return
            on_told(self._told_untrusted(replies[1:]), self._tree.refusal(replies[0], what))

        self._tree.connection.send_later([change, *self._closing(details)], self._tree.batch, take)

    def _closing(self, details: bool) -> list[Request]:
        """The CLOSE that tells the attributes, behind a QUERY_INFO if it has to be."""
        close = self._close_telling()
        return [query_all(self.file_id), close] if details or not self._telling.at_close else [close]

    def _told_untrusted(self, replies: Sequence[Reply]) -> FileStat | None:
        """What the replies to `_closing` tell; None for nothing that can be believed."""
        if replies[-1].header.status != ntstatus.STATUS_SUCCESS:
            # It may still be open, because what came before the CLOSE failed.
            self._send_close()
        if any(reply.header.status != ntstatus.STATUS_SUCCESS for reply in replies):
            return None
        try:
            queried = [decode_all(reply.message) for reply in replies[:-1]]
            stat = queried[0] if queried else replace(self.stat, number_of_links=0, ea_size=None)
            told = stat_at_close(stat, CloseResponse.decode_untrusted(replies[-1].message))
        except RemoteProtocolError as error:
            log.debug("what the close of %s told makes no sense: %s", self.path, error)
            return None
        self._telling.at_close = self._telling.at_close and told is not None
        return told or (queried[0] if queried else None)

    def _close_telling(self) -> CloseRequest:
        return CloseRequest(file_id=self.file_id, flags=CloseFlags.POSTQUERY_ATTRIB)

    def close_later(self) -> None:
        """Close the handle without waiting for the server."""
        if not self._closed:
            self._end()
            self._send_close()

    def _send_close(self) -> None:
        if self.handle.epoch == self._tree.epoch:
            request = CloseRequest(file_id=self.file_id)
            self._tree.connection.send_later([request], self._tree.batch, self._answered)

    async def query(self) -> FileStat:
        """The file's attributes now."""
        (reply,) = await self._tree.exchange(
            query_all(self.file_id), what=f"query {self.path}", handle=self.handle
        )
        return decode_all(reply.message)

    async def truncate(self, size: int) -> None:
        """Set the end of the file; what is added reads as zeros."""
        await self._set(FileEndOfFileInformation(size), f"set the size of {self.path}")

    async def truncate_and_stat(self, size: int) -> FileStat:
        """Set the end of the file and return the attributes that it then has, in one round trip."""
        self._keeping.changed = True
        _, queried = await self._tree.exchange(
            set_info(FileEndOfFileInformation(size), self.file_id),
            query_all(self.file_id),
            what=f"set the size of {self.path}",
            handle=self.handle,
        )
        return decode_all(queried.message)

    async def set_basic(
        self,
        *,
        access_ns: int | None = None,
        write_ns: int | None = None,
        creation_ns: int | None = None,
        change_ns: int | None = None,
        attributes: int | None = None,
    ) -> None:
        """Set times (nanoseconds since 1970) and attributes; what is None stays."""
        info = basic_information(access_ns, write_ns, creation_ns, change_ns, attributes)
        await self._set(info, f"set attributes of {self.path}")

    async def rename(self, target: str, *, replace: bool) -> None:
        """Give the file the path `target` within the share."""
        check_target(target)
        info = FileRenameInformation(file_name=target, replace_if_exists=replace)
        await self._set(info, f"rename {self.path} to {target}")
        self.handle.path = target

    async def link(self, new: str) -> None:
        """Make a hard link."""
        check_target(new)
        info = FileLinkInformation(file_name=new, replace_if_exists=False)
        await self._set(info, f"link {new} to {self.path}")

    async def set_ea(self, name: str, value: Buffer) -> None:
        """Set an extended attribute; an empty value removes it."""
        request = setting_ea(self.file_id, name, value)
        what = f"set an extended attribute of {self.path}"
        await self._tree.exchange(request, what=what, handle=self.handle)

    async def delete(self) -> None:
        """Mark the file for deletion with its last close."""
        await self._set(FileDispositionInformation(), f"delete {self.path}")

    async def lock(self, offset: int, length: int, *, exclusive: bool, wait: bool) -> None:
        """Lock a range of bytes; with `wait` until it is granted, else `LockNotGranted` is raised."""
        flags = LockFlags.EXCLUSIVE_LOCK if exclusive else LockFlags.SHARED_LOCK
        if not wait:
            flags |= LockFlags.FAIL_IMMEDIATELY
        await self._lock([LockElement(offset=offset, length=length, flags=flags)], "lock")

    async def unlock(self, offset: int, length: int) -> None:
        """Release exactly the range that was locked."""
        await self._lock([LockElement(offset=offset, length=length, flags=LockFlags.UNLOCK)], "unlock")

    async def ioctl(self, code: int, data: Buffer = b"", room: int = _RANGES_ROOM) -> memoryview:
        """Send a file system control; returns its output, at most `room` bytes."""
        response = await self._tree.call(
            IoctlRequest(
                ctl_code=code,
                file_id=self.file_id,
                input=data,
                max_output_response=room,
                flags=IoctlFlags.IS_FSCTL,
            ),
            IoctlResponse,
            f"file system control 0x{code:08X} on {self.path}",
            self.handle,
        )
        return memoryview(response.output)

    async def set_sparse(self) -> None:
        """Let holes take no room."""
        await self.ioctl(FsctlCode.SET_SPARSE, room=0)

    async def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros, and take no room if the file is sparse."""
        info = SetZeroDataRequest(offset, offset + length)
        await self.ioctl(FsctlCode.SET_ZERO_DATA, info.encode(), room=0)

    async def allocated_ranges(self, offset: int, length: int) -> list[tuple[int, int]]:
        """The ranges, as (offset, length), that may hold something else than zeros; neighbours may touch."""
        end = offset + length
        span = length
        ranges: list[tuple[int, int]] = []
        while offset < end:
            asked = AllocatedRange(offset, min(span, end - offset))
            reply = await self._query_ranges(asked)
            if reply.header.status == ntstatus.STATUS_BUFFER_TOO_SMALL:
                span = asked.length // 2
                continue
            output = IoctlResponse.decode_untrusted(reply.message).output
            found = decode_allocated_ranges_untrusted(memoryview(output))
            ranges += [(entry.file_offset, entry.length) for entry in found]
            following = offset + asked.length
            if reply.header.status == ntstatus.STATUS_BUFFER_OVERFLOW:
                following = found[-1].file_offset + found[-1].length if found else offset
            if following <= offset:
                raise RemoteProtocolError("the server lists a file's ranges in no order")
            offset = following
        return ranges

    async def _query_ranges(self, asked: AllocatedRange) -> Reply:
        """Some servers tell what fits and BUFFER_OVERFLOW, others nothing but BUFFER_TOO_SMALL."""
        (reply,) = await self._tree.exchange(
            IoctlRequest(
                ctl_code=FsctlCode.QUERY_ALLOCATED_RANGES,
                file_id=self.file_id,
                input=encode_allocated_ranges([asked]),
                max_output_response=_RANGES_ROOM,
                flags=IoctlFlags.IS_FSCTL,
            ),
            what=f"find the holes of {self.path}",
            handle=self.handle,
            passes=(ntstatus.STATUS_BUFFER_TOO_SMALL,) if asked.length > 1 else (),
        )
        return reply

    async def _set(self, info: SetInfo, what: str) -> None:
        self._keeping.changed = True
        await self._tree.exchange(set_info(info, self.file_id), what=what, handle=self.handle)

    async def _lock(self, elements: Sequence[LockElement], verb: str) -> None:
        self._keeping.has_locks = True
        request = LockRequest(file_id=self.file_id, locks=elements)
        await self._tree.call(request, LockResponse, f"{verb} a range of {self.path}", self.handle)

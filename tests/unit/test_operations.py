"""The adapter to pyfuse3, and the wall around it; called as pyfuse3 calls it, without a kernel."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable

import pyfuse3
import pytest
import trio
import trio.testing

from engine import Buffer, TransportError, ntstatus
from smbmount.guard import guarded
from smbmount.operations import Operations
from smbmount.vfs.config import FileSystemConfig
from smbmount.vfs.errors import PosixError
from smbmount.vfs.filesystem import FileSystem
from tests.fakes.share import FakeShare
from tests.support.substitute import substitute
from tests.unit.vfs.support import ROOT, Listed, mounted, virtual_time

CONTEXT = pyfuse3.RequestContext()
TIMEOUT = 60.0


async def errno_of(call: Awaitable[object]) -> int:
    """The errno that pyfuse3 would send to the kernel."""
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await call
    return caught.value.errno


@virtual_time
async def test_a_look_up_is_translated() -> None:
    async with mounted(config=FileSystemConfig(uid=7, gid=8)) as (share, fs):
        share.put("f", bytes(5000))
        entry = await Operations(fs, TIMEOUT).lookup(ROOT, b"f", CONTEXT)
        assert entry.st_ino == share.find("f").number
        assert stat.S_ISREG(entry.st_mode)
        assert (entry.st_size, entry.st_blocks, entry.st_nlink) == (5000, 16, 1)
        assert (entry.st_uid, entry.st_gid, entry.st_blksize) == (7, 8, 1 << 20)
        assert entry.st_mtime_ns == share.find("f").written
        assert (entry.attr_timeout, entry.entry_timeout) == (1.0, 1.0)


@virtual_time
async def test_a_missing_name_is_remembered_by_the_kernel() -> None:
    async with mounted() as (_share, fs):
        entry = await Operations(fs, TIMEOUT).lookup(ROOT, b"missing", CONTEXT)
        assert (entry.st_ino, entry.entry_timeout) == (0, 1.0)


@virtual_time
async def test_times_outside_of_every_range_are_translated() -> None:
    async with mounted() as (share, fs):
        operations = Operations(fs, TIMEOUT)
        for number, time_ns in enumerate((-(1 << 80), -11_644_473_600 * 10**9, -1, 0, 1 << 80)):
            share.put(f"f{number}").written = time_ns
            entry = await operations.lookup(ROOT, f"f{number}".encode(), CONTEXT)
            assert abs(entry.st_mtime_ns) <= abs(time_ns)


@virtual_time
async def test_a_file_lives_through_all_its_handlers() -> None:
    async with mounted() as (share, fs):
        operations = Operations(fs, TIMEOUT)
        info, entry = await operations.create(ROOT, b"f", 0o644, os.O_RDWR, CONTEXT)
        assert await operations.write(info.fh, 0, b"hello") == 5
        await operations.flush(info.fh)
        await operations.fsync(info.fh, True)
        assert bytes(await operations.read(info.fh, 0, 100)) == b"hello"
        await operations.release(info.fh)
        assert (await operations.getattr(entry.st_ino, CONTEXT)).st_size == 5
        assert (await operations.link(entry.st_ino, ROOT, b"g", CONTEXT)).st_nlink == 2
        await operations.rename(ROOT, b"g", ROOT, b"h", 0, CONTEXT)
        await operations.unlink(ROOT, b"h", CONTEXT)
        await operations.setxattr(entry.st_ino, b"user.x", b"1", CONTEXT)
        assert await operations.getxattr(entry.st_ino, b"user.x", CONTEXT) == b"1"
        assert await operations.listxattr(entry.st_ino, CONTEXT) == [b"user.x"]
        await operations.removexattr(entry.st_ino, b"user.x", CONTEXT)
        again = await operations.open(entry.st_ino, os.O_RDONLY, CONTEXT)
        await operations.release(again.fh)
        await operations.forget([(entry.st_ino, 2)])
        assert share.names() == ["f"]


@virtual_time
async def test_folders_links_and_the_rest_are_translated() -> None:
    async with mounted(config=FileSystemConfig(uid=0)) as (share, fs):
        operations = Operations(fs, TIMEOUT)
        folder = await operations.mkdir(ROOT, b"d", 0o755, CONTEXT)
        assert stat.S_ISDIR(folder.st_mode)
        await operations.mknod(folder.st_ino, b"n", stat.S_IFREG | 0o600, 0, CONTEXT)
        link = await operations.symlink(ROOT, b"l", b"d/n", CONTEXT)
        assert await operations.readlink(link.st_ino, CONTEXT) == b"d/n"
        assert await operations.access(ROOT, os.R_OK, CONTEXT)
        status = await operations.statfs(CONTEXT)
        assert (status.f_frsize, status.f_blocks, status.f_bavail) == (4096, 2000, 1000)
        assert status.f_namemax == 255
        handle = await operations.opendir(ROOT, CONTEXT)
        await operations.fsyncdir(handle, False)
        await operations.releasedir(handle)
        await operations.unlink(folder.st_ino, b"n", CONTEXT)
        await operations.rmdir(ROOT, b"d", CONTEXT)
        assert share.names() == ["l"]


@virtual_time
async def test_setattr_changes_only_what_is_asked() -> None:
    async with mounted() as (share, fs):
        operations = Operations(fs, TIMEOUT)
        info, entry = await operations.create(ROOT, b"f", 0o644, os.O_RDWR, CONTEXT)
        written = share.find("f").written
        entry.st_size = 10
        entry.st_mtime_ns = 5_000_000_000
        unchanged = await operations.setattr(entry.st_ino, entry, pyfuse3.SetattrFields(), info.fh, CONTEXT)
        assert (unchanged.st_size, share.find("f").written) == (0, written)


@virtual_time
async def test_every_handler_of_pyfuse3_that_a_share_can_serve_is_there() -> None:
    served = {
        name
        for name in vars(pyfuse3.Operations)
        if not name.startswith("_") and callable(getattr(pyfuse3.Operations, name))
    }
    assert served - set(vars(Operations)) == {"init", "poll", "stacktrace"}


@virtual_time
async def test_refusals_become_their_errno() -> None:
    async with mounted() as (share, fs):
        operations = Operations(fs, TIMEOUT)
        share.fail_next("mkdir", ntstatus.STATUS_DISK_FULL)
        assert await errno_of(operations.mkdir(ROOT, b"d", 0o755, CONTEXT)) == errno.ENOSPC
        share.fail_next("mkdir", TransportError("gone", errno=errno.EHOSTDOWN))
        assert await errno_of(operations.mkdir(ROOT, b"d", 0o755, CONTEXT)) == errno.EHOSTDOWN
        assert await errno_of(operations.mkdir(ROOT, b"\xff", 0o755, CONTEXT)) == errno.EILSEQ
        assert await errno_of(operations.getattr(12345, CONTEXT)) == errno.ESTALE
        assert await errno_of(operations.read(12345, 0, 1)) == errno.EBADF
        assert await errno_of(operations.lookup(ROOT, b"x" * 256, CONTEXT)) == errno.ENAMETOOLONG


@pytest.mark.expected_warnings("mkdir failed by a mistake of this program")
@virtual_time
async def test_a_mistake_of_ours_is_eio_and_the_mount_lives_on() -> None:
    async with mounted() as (share, fs):
        operations = Operations(fs, TIMEOUT)
        share.fail_next("mkdir", ZeroDivisionError("a bug"))
        assert await errno_of(operations.mkdir(ROOT, b"d", 0o755, CONTEXT)) == errno.EIO
        assert (await operations.mkdir(ROOT, b"d", 0o755, CONTEXT)).st_ino


@pytest.mark.expected_warnings("no answer for 60 seconds")
@virtual_time
async def test_a_silent_server_is_eio_within_the_timeout() -> None:
    async with mounted() as (share, fs):
        share.put("f")
        start = trio.current_time()
        with share.hold("stat"):
            assert await errno_of(Operations(fs, TIMEOUT).lookup(ROOT, b"f", CONTEXT)) == errno.EIO
        assert trio.current_time() - start == pytest.approx(TIMEOUT)


@pytest.mark.expected_warnings("no answer for 60 seconds")
@virtual_time
async def test_a_writer_waits_while_the_server_is_slow_but_not_when_it_is_silent() -> None:
    share = FakeShare()
    async with mounted(share) as (_, fs):
        operations = Operations(fs, TIMEOUT)
        info, _ = await operations.create(ROOT, b"f", 0o644, os.O_RDWR, CONTEXT)
        file = share.find("f").opens[0]
        write_at = file.write_at
        pace = trio.CapacityLimiter(1)

        async def slow(offset: int, data: Buffer) -> int:
            async with pace:
                await trio.sleep(40)
            return await write_at(offset, data)

        substitute(file.write_at)(slow)
        for index in range(18):
            await operations.write(info.fh, index << 20, bytes(1 << 20))
        start = trio.current_time()
        await operations.fsync(info.fh, False)
        assert trio.current_time() - start > 5 * TIMEOUT
        with share.hold("write_at"):
            await operations.write(info.fh, 0, b"x")
            assert await errno_of(operations.fsync(info.fh, False)) == errno.EIO


@guarded
async def read_folder(operations: Operations, fs: FileSystem, folder: int) -> int:
    """As `Operations.readdir`, without the kernel's buffer."""
    return await Listed(fs, folder).read()


async def arriving(share: FakeShare, awaited: int, seconds: float) -> None:
    """For so long a byte of the `awaited` ones arrives every ten seconds."""
    until = trio.current_time() + seconds
    share.awaited = awaited
    while trio.current_time() < until:
        await trio.sleep(10)
        share.arrived += 1


@pytest.mark.expected_warnings("no answer for 60 seconds")
@pytest.mark.parametrize("what", ["open", "read_at", "scandir"])
@virtual_time
async def test_a_reader_waits_while_bytes_arrive_but_not_when_they_are_for_others(what: str) -> None:
    async with mounted() as (share, fs):
        share.put("f", bytes(1000))
        operations = Operations(fs, TIMEOUT)
        number = (await operations.lookup(ROOT, b"f", CONTEXT)).st_ino
        opened = (await operations.open(number, os.O_RDWR, CONTEXT)).fh

        async def call() -> None:
            if what == "open":
                await operations.open(number, os.O_RDONLY, CONTEXT)
            elif what == "read_at":
                await operations.read(opened, 0, 100)
            else:
                folder = await operations.opendir(ROOT, CONTEXT)
                await read_folder(operations, fs, folder)

        async with trio.open_nursery() as nursery:
            with share.hold(what):
                nursery.start_soon(call)
                await arriving(share, 1000, 5 * TIMEOUT)
        await trio.sleep(10)
        with share.hold(what):
            start = trio.current_time()
            share.awaited = 0
            assert await errno_of(call()) == errno.EIO
            assert trio.current_time() - start == TIMEOUT
            async with trio.open_nursery() as nursery:
                start = trio.current_time()
                nursery.start_soon(arriving, share, 3, 5 * TIMEOUT)
                assert await errno_of(call()) == errno.EIO
                assert TIMEOUT < trio.current_time() - start < 3 * TIMEOUT


@virtual_time
async def test_cancellation_from_outside_passes() -> None:
    async with mounted() as (share, fs):
        share.put("f")
        with share.hold("stat"), trio.move_on_after(1) as scope:
            await Operations(fs, TIMEOUT).lookup(ROOT, b"f", CONTEXT)
        assert scope.cancelled_caught


class Owner:
    """Handlers that fail in their own ways."""

    timeout = 1.0

    @guarded
    async def no_errno(self) -> None:
        raise OSError("no number")

    @guarded
    async def zero(self) -> None:
        raise PosixError(0, "zero would mean success")

    @guarded
    async def already_fuse(self) -> None:
        raise pyfuse3.FUSEError(errno.EXDEV)

    @guarded
    async def group(self) -> None:
        raise ExceptionGroup("several", [ValueError()])


@virtual_time
async def test_an_error_is_never_zero() -> None:
    assert await errno_of(Owner().no_errno()) == errno.EIO
    assert await errno_of(Owner().zero()) == errno.EIO
    assert await errno_of(Owner().already_fuse()) == errno.EXDEV


@pytest.mark.expected_warnings("group failed by a mistake")
@virtual_time
async def test_groups_of_errors_do_not_end_the_mount() -> None:
    assert await errno_of(Owner().group()) == errno.EIO


@virtual_time
async def test_without_a_lease_no_open_keeps_the_kernels_pages() -> None:
    async with mounted() as (share, fs):
        share.put("f", b"data")
        operations = Operations(fs, TIMEOUT)
        entry = await operations.lookup(ROOT, b"f", CONTEXT)
        for _ in range(2):
            assert not (await operations.open(entry.st_ino, os.O_RDONLY, CONTEXT)).keep_cache

"""What open, read, write and truncate promise."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.calls import error_of
from tests.support.samba import SambaServer

pytestmark = pytest.mark.deadline(60)

LARGEST_OFFSET = 2**63 - 1


@pytest.fixture
def opened() -> Iterator[Callable[..., int]]:
    """`os.open`, and what it opened is closed when the test ends."""
    descriptors: list[int] = []

    def open_file(path: Path, flags: int, mode: int = 0o666) -> int:
        descriptors.append(os.open(path, flags, mode))
        return descriptors[-1]

    yield open_file
    for descriptor in descriptors:
        os.close(descriptor)


def test_exclusive_create(here: Path, opened: Callable[..., int]) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    opened(here / "new", flags)
    assert error_of(lambda: opened(here / "new", flags)) == errno.EEXIST
    (here / "folder").mkdir()
    assert error_of(lambda: opened(here / "folder", flags)) == errno.EEXIST
    (here / "link").symlink_to("nowhere")
    assert error_of(lambda: opened(here / "link", flags)) == errno.EEXIST


def test_exclusive_create_of_what_another_client_made(
    samba: SambaServer, here: Path, there: Path, opened: Callable[..., int]
) -> None:
    """The caches of this mount still say that there is no such file."""
    assert not (here / "lock").exists()
    (there / "lock").touch()
    samba.adopt(there)
    assert error_of(lambda: opened(here / "lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY)) == errno.EEXIST


def test_create_keeps_content_and_truncation_drops_it(
    here: Path, there: Path, opened: Callable[..., int]
) -> None:
    (here / "file").write_text("content")
    opened(here / "file", os.O_CREAT | os.O_RDWR)
    assert (here / "file").read_text() == "content"
    opened(here / "file", os.O_TRUNC | os.O_WRONLY)
    assert (here / "file").stat().st_size == (there / "file").stat().st_size == 0
    opened(here / "other", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    assert (there / "other").is_file()


def test_create_modes(here: Path, opened: Callable[..., int]) -> None:
    """Only the write bits can be stored, and a file made read-only can be written by its maker."""
    writer = opened(here / "read-only", os.O_CREAT | os.O_WRONLY, 0o444)
    os.write(writer, b"by its maker")
    os.fsync(writer)
    assert (here / "read-only").read_bytes() == b"by its maker"
    opened(here / "private", os.O_CREAT | os.O_WRONLY, 0o600)
    assert stat.S_IMODE((here / "private").stat().st_mode) == 0o755


def test_append_by_two_handles(here: Path, there: Path, opened: Callable[..., int]) -> None:
    one = opened(here / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    two = opened(here / "log", os.O_WRONLY | os.O_APPEND)
    expected = b""
    for number in range(50):
        for descriptor in (one, two):
            line = b"%d of %d\n" % (number, descriptor == one)
            os.write(descriptor, line)
            expected += line
    os.fsync(one)
    os.fsync(two)
    assert (there / "log").read_bytes() == expected


def test_append_ignores_the_position(here: Path, there: Path, opened: Callable[..., int]) -> None:
    (here / "log").write_bytes(b"0123456789")
    appender = opened(here / "log", os.O_RDWR | os.O_APPEND)
    os.lseek(appender, 2, os.SEEK_SET)
    os.write(appender, b"end")
    assert os.pread(appender, 100, 0) == b"0123456789end"
    os.fsync(appender)
    assert (there / "log").read_bytes() == b"0123456789end"


def test_open_flags_that_ask_for_a_kind(here: Path, opened: Callable[..., int]) -> None:
    (here / "file").touch()
    (here / "folder").mkdir()
    (here / "link").symlink_to("file")
    assert error_of(lambda: opened(here / "file", os.O_DIRECTORY)) == errno.ENOTDIR
    opened(here / "folder", os.O_DIRECTORY)
    assert error_of(lambda: opened(here / "link", os.O_NOFOLLOW)) == errno.ELOOP
    opened(here / "link", os.O_RDONLY)
    assert error_of(lambda: opened(here / "folder", os.O_WRONLY)) == errno.EISDIR
    assert error_of(lambda: opened(here / "folder", os.O_RDWR | os.O_CREAT)) == errno.EISDIR
    assert error_of(lambda: opened(here / "missing", os.O_RDONLY)) == errno.ENOENT
    assert error_of(lambda: opened(here / "file" / "below", os.O_RDONLY)) == errno.ENOTDIR
    assert error_of(lambda: opened(here / "missing" / "below", os.O_CREAT)) == errno.ENOENT


def test_access_mode_is_kept(here: Path, opened: Callable[..., int]) -> None:
    (here / "file").write_bytes(b"content")
    writer = opened(here / "file", os.O_WRONLY)
    assert error_of(lambda: os.read(writer, 1)) == errno.EBADF
    reader = opened(here / "file", os.O_RDONLY)
    assert error_of(lambda: os.write(reader, b"x")) == errno.EBADF
    assert error_of(lambda: os.ftruncate(reader, 0)) == errno.EINVAL


def test_write_only_handle_changes_part_of_a_page(
    here: Path, there: Path, opened: Callable[..., int]
) -> None:
    (here / "file").write_bytes(b"0123456789")
    writer = opened(here / "file", os.O_WRONLY)
    os.pwrite(writer, b"XY", 4)
    assert (here / "file").read_bytes() == b"0123XY6789"
    os.fsync(writer)
    assert (there / "file").read_bytes() == b"0123XY6789"


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 100_000, 3_000_000])
def test_truncate_by_name_and_by_handle(
    here: Path, there: Path, opened: Callable[..., int], size: int
) -> None:
    content = os.urandom(1_000_000)
    expected = content[:size].ljust(size, b"\0")
    for name in ("name", "handle", "both"):
        (here / name).write_bytes(content)
    os.truncate(here / "name", size)
    os.ftruncate(opened(here / "handle", os.O_RDWR), size)
    opened(here / "both", os.O_RDONLY)
    os.truncate(here / "both", size)
    for name in ("name", "handle", "both"):
        assert (here / name).stat().st_size == (there / name).stat().st_size == size
        assert (here / name).read_bytes() == (there / name).read_bytes() == expected


def test_truncate_between_writes(here: Path, there: Path, opened: Callable[..., int]) -> None:
    """Data on its way to the server must not come back behind the cut."""
    file = opened(here / "file", os.O_CREAT | os.O_RDWR)
    os.pwrite(file, b"a" * 300_000, 0)
    os.ftruncate(file, 100)
    os.pwrite(file, b"b" * 10, 200)
    expected = b"a" * 100 + bytes(100) + b"b" * 10
    assert os.pread(file, 1000, 0) == expected
    assert os.fstat(file).st_size == 210
    os.fsync(file)
    assert (there / "file").read_bytes() == expected


def test_truncate_that_cannot_be(here: Path) -> None:
    (here / "file").touch()
    (here / "folder").mkdir()
    assert error_of(lambda: os.truncate(here / "file", -1)) == errno.EINVAL
    assert error_of(lambda: os.truncate(here / "folder", 0)) == errno.EISDIR
    assert error_of(lambda: os.truncate(here / "missing", 0)) == errno.ENOENT
    error = error_of(lambda: os.truncate(here / "file", LARGEST_OFFSET))
    assert error in {errno.EFBIG, errno.EINVAL, errno.ENOSPC}
    assert (here / "file").stat().st_size == 0


def test_holes_read_as_zeros(here: Path, there: Path, opened: Callable[..., int]) -> None:
    file = opened(here / "file", os.O_CREAT | os.O_RDWR)
    os.pwrite(file, b"end", 5_000_000)
    os.pwrite(file, b"start", 0)
    assert os.pread(file, 100, 2_000_000) == bytes(100)
    os.fsync(file)
    assert (there / "file").read_bytes() == b"start" + bytes(4_999_995) + b"end"


def test_seek_for_data_and_holes_falls_back(here: Path, opened: Callable[..., int]) -> None:
    """Without knowledge of holes all of a file counts as data, as lseek(2) allows."""
    (here / "file").write_bytes(b"x" * 10_000)
    file = opened(here / "file", os.O_RDONLY)
    assert os.lseek(file, 5000, os.SEEK_DATA) == 5000
    assert os.lseek(file, 0, os.SEEK_HOLE) == 10_000
    assert os.lseek(file, -1, os.SEEK_END) == 9999
    assert error_of(lambda: os.lseek(file, 10_000, os.SEEK_DATA)) == errno.ENXIO


def test_reads_and_writes_at_the_end(here: Path, opened: Callable[..., int]) -> None:
    file = opened(here / "file", os.O_CREAT | os.O_RDWR)
    assert os.pread(file, 100, 0) == b""
    os.pwrite(file, b"0123456789", 0)
    assert os.pread(file, 100, 8) == b"89"
    assert os.pread(file, 100, 10) == b""
    assert os.pread(file, 100, 10**12) == b""
    assert os.pread(file, 0, 0) == b""
    assert os.pwrite(file, b"", 10**6) == 0
    assert os.fstat(file).st_size == 10


def test_offsets_beyond_all_bounds(here: Path, opened: Callable[..., int]) -> None:
    file = opened(here / "file", os.O_CREAT | os.O_RDWR)
    too_far = {errno.EFBIG, errno.EINVAL}
    assert error_of(lambda: os.pwrite(file, b"x", LARGEST_OFFSET)) in too_far
    assert error_of(lambda: os.pread(file, 1, LARGEST_OFFSET)) in too_far | {0}
    assert error_of(lambda: os.pwrite(file, b"x", -1)) == errno.EINVAL
    os.pwrite(file, b"x", 0)
    os.fsync(file)
    assert os.fstat(file).st_size == 1


def test_write_at_an_offset_the_server_cannot_store(here: Path, opened: Callable[..., int]) -> None:
    """The write itself may be taken; then its error comes at fsync, and the file goes on working."""
    file = opened(here / "file", os.O_CREAT | os.O_RDWR)

    def write_and_sync() -> None:
        os.pwrite(file, b"x", 2**62)
        os.fsync(file)

    assert error_of(write_and_sync) in {errno.EFBIG, errno.EINVAL, errno.ENOSPC}
    os.pwrite(file, b"fine", 0)
    os.fsync(file)
    assert os.pread(file, 4, 0) == b"fine"


def test_file_over_four_gib_is_exact(here: Path, there: Path, opened: Callable[..., int]) -> None:
    file = opened(here / "file", os.O_CREAT | os.O_RDWR)
    for offset in (2**31 - 2, 2**32 - 2, 2**32 + 10):
        os.pwrite(file, b"word", offset)
    assert os.fstat(file).st_size == 2**32 + 14
    os.fsync(file)
    with (there / "file").open("rb") as server:
        for offset in (2**31 - 2, 2**32 - 2, 2**32 + 10):
            assert os.pread(server.fileno(), 4, offset) == os.pread(file, 4, offset) == b"word"
    assert (there / "file").stat().st_size == 2**32 + 14


def test_two_handles_of_one_file_agree_at_once(here: Path, opened: Callable[..., int]) -> None:
    writer = opened(here / "file", os.O_CREAT | os.O_WRONLY)
    reader = opened(here / "file", os.O_RDONLY)
    for size in range(1, 200, 7):
        os.pwrite(writer, b"%03d" % size * size, 0)
        assert os.pread(reader, 3, 0) == b"%03d" % size
        assert os.fstat(reader).st_size == 3 * size


def test_what_close_returned_from_is_on_the_server(here: Path, there: Path) -> None:
    content = os.urandom(5_000_000)
    (here / "file").write_bytes(content)
    assert (there / "file").read_bytes() == content


def test_what_fsync_returned_from_is_on_the_server(
    here: Path, there: Path, opened: Callable[..., int]
) -> None:
    content = os.urandom(3_000_000)
    file = opened(here / "file", os.O_CREAT | os.O_WRONLY)
    os.write(file, content)
    os.fsync(file)
    assert (there / "file").read_bytes() == content
    os.pwrite(file, b"more", 0)
    os.fdatasync(file)
    assert (there / "file").read_bytes()[:4] == b"more"


def test_what_was_written_reaches_the_server_by_itself(
    here: Path, there: Path, opened: Callable[..., int]
) -> None:
    os.write(opened(here / "log", os.O_CREAT | os.O_WRONLY), b"a line\n")
    deadline = time.monotonic() + 5
    while (there / "log").read_bytes() != b"a line\n":
        assert time.monotonic() < deadline


def test_what_another_client_wrote_is_seen_after_open(samba: SambaServer, here: Path, there: Path) -> None:
    (here / "file").write_text("old content")
    assert (here / "file").read_text() == "old content"
    (there / "file").write_text("new, and longer content")
    assert (here / "file").read_text() == "new, and longer content"


def test_only_regular_files_can_be_made(here: Path) -> None:
    os.mknod(here / "regular", stat.S_IFREG | 0o644)
    assert (here / "regular").stat().st_size == 0
    assert error_of(lambda: os.mkfifo(here / "fifo")) == errno.EPERM
    assert error_of(lambda: os.mknod(here / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))) == errno.EPERM
    assert os.listdir(here) == ["regular"]
    assert error_of(lambda: os.mknod(here / "regular", stat.S_IFREG | 0o644)) == errno.EEXIST


def test_access_follows_the_mode_bits(here: Path) -> None:
    (here / "file").touch()
    assert os.access(here / "file", os.R_OK | os.W_OK)
    assert os.access(here, os.R_OK | os.W_OK | os.X_OK)
    assert not os.access(here / "missing", os.F_OK)
    assert not os.access(here / "file" / "below", os.F_OK)


def test_fsync_of_a_folder(here: Path, opened: Callable[..., int]) -> None:
    os.fsync(opened(here, os.O_RDONLY | os.O_DIRECTORY))


def test_memory_map_is_shared_with_the_server(here: Path, there: Path, opened: Callable[..., int]) -> None:
    (here / "file").write_bytes(bytes(10_000))
    with mmap.mmap(opened(here / "file", os.O_RDWR), 10_000) as memory:
        memory[5000:5004] = b"here"
        memory.flush()
    assert (there / "file").read_bytes() == bytes(5000) + b"here" + bytes(4996)


@pytest.mark.parametrize("size", [4096, 10_000])
def test_memory_map_of_a_file_open_for_appending(
    here: Path, there: Path, opened: Callable[..., int], size: int
) -> None:
    """Its pages go where they belong, and what is written between to the end."""
    appender = opened(here / "file", os.O_CREAT | os.O_RDWR | os.O_APPEND)
    os.write(appender, bytes(size))
    with mmap.mmap(appender, size) as memory:
        memory[0:5] = b"begin"
        memory.flush()
        os.write(appender, bytes(4096))
        memory[size - 3 :] = b"end"
        memory.flush()
    os.write(appender, b"appended")
    os.fsync(appender)
    assert (there / "file").read_bytes() == (b"begin" + bytes(size - 8) + b"end" + bytes(4096) + b"appended")

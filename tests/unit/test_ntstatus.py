"""The status table: complete, consistent, and what a POSIX program expects."""

import errno

import pytest

from engine import errors, ntstatus

TABLE = [ntstatus.lookup(code) for code in ntstatus._TABLE]


def test_the_table_is_large_and_every_constant_is_in_it() -> None:
    constants = {name: value for name, value in vars(ntstatus).items() if name.startswith("STATUS_")}
    assert len(TABLE) == len(constants) >= 120
    for name, code in constants.items():
        assert ntstatus.lookup(code).name == name
        assert ntstatus.lookup(code).code == code


@pytest.mark.parametrize("info", TABLE, ids=lambda info: info.name)
def test_every_line(info: ntstatus.StatusInfo) -> None:
    severity = info.code >> 30
    assert (info.errno == 0) == (severity == 0)
    assert info.errno == 0 or info.errno in errno.errorcode
    assert info.meaning
    assert info.meaning[0].islower() or info.meaning.startswith("DFS")
    assert not info.meaning.endswith(".")
    if info.leaf_name:
        leaf = getattr(errors, info.leaf_name)
        assert issubclass(leaf, errors.NtStatusError)
        assert leaf is not errors.NtStatusError


def test_every_leaf_is_reached() -> None:
    leaves = {leaf.__name__ for leaf in errors.NtStatusError.__subclasses__()}
    assert leaves == {info.leaf_name for info in TABLE} - {""}


@pytest.mark.parametrize(
    ("code", "name", "number"),
    [
        (0x80000005, "STATUS_BUFFER_OVERFLOW", errno.ERANGE),
        (0x8000002D, "STATUS_STOPPED_ON_SYMLINK", errno.ELOOP),
        (0xC000000D, "STATUS_INVALID_PARAMETER", errno.EINVAL),
        (0xC0000022, "STATUS_ACCESS_DENIED", errno.EACCES),
        (0xC0000033, "STATUS_OBJECT_NAME_INVALID", errno.EINVAL),
        (0xC0000034, "STATUS_OBJECT_NAME_NOT_FOUND", errno.ENOENT),
        (0xC0000035, "STATUS_OBJECT_NAME_COLLISION", errno.EEXIST),
        (0xC0000043, "STATUS_SHARING_VIOLATION", errno.EBUSY),
        (0xC0000044, "STATUS_QUOTA_EXCEEDED", errno.EDQUOT),
        (0xC0000056, "STATUS_DELETE_PENDING", errno.ENOENT),
        (0xC000006D, "STATUS_LOGON_FAILURE", errno.EACCES),
        (0xC000007F, "STATUS_DISK_FULL", errno.ENOSPC),
        (0xC00000A2, "STATUS_MEDIA_WRITE_PROTECTED", errno.EROFS),
        (0xC00000B5, "STATUS_IO_TIMEOUT", errno.ETIMEDOUT),
        (0xC00000BA, "STATUS_FILE_IS_A_DIRECTORY", errno.EISDIR),
        (0xC00000C9, "STATUS_NETWORK_NAME_DELETED", errno.EIO),
        (0xC00000CC, "STATUS_BAD_NETWORK_NAME", errno.ENOENT),
        (0xC00000D4, "STATUS_NOT_SAME_DEVICE", errno.EXDEV),
        (0xC0000101, "STATUS_DIRECTORY_NOT_EMPTY", errno.ENOTEMPTY),
        (0xC0000103, "STATUS_NOT_A_DIRECTORY", errno.ENOTDIR),
        (0xC0000106, "STATUS_NAME_TOO_LONG", errno.ENAMETOOLONG),
        (0xC0000120, "STATUS_CANCELLED", errno.ECANCELED),
        (0xC0000121, "STATUS_CANNOT_DELETE", errno.EACCES),
        (0xC0000128, "STATUS_FILE_CLOSED", errno.ESTALE),
        (0xC0000161, "STATUS_ILLEGAL_CHARACTER", errno.EILSEQ),
        (0xC0000203, "STATUS_USER_SESSION_DELETED", errno.EIO),
        (0xC0000257, "STATUS_PATH_NOT_COVERED", errno.EREMOTE),
        (0xC000035C, "STATUS_NETWORK_SESSION_EXPIRED", errno.EIO),
    ],
)
def test_the_ones_that_matter_most(code: int, name: str, number: int) -> None:
    info = ntstatus.lookup(code)
    assert (info.name, info.errno) == (name, number)


@pytest.mark.parametrize("code", [0xC0001234, 0xFFFFFFFF, 0x00000999, -1])
def test_an_unknown_status(code: int) -> None:
    info = ntstatus.lookup(code)
    assert info.name == f"STATUS_0x{code & 0xFFFFFFFF:08X}"
    assert (info.errno, info.leaf_name) == (errno.EIO, "")
    assert "unknown" in info.meaning


def test_a_code_cannot_be_entered_twice() -> None:
    with pytest.raises(ValueError, match="0xC0000022 is in the table twice"):
        ntstatus._row(0xC0000022, errno.EACCES, "AccessDenied", "again")

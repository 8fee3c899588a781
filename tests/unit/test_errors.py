"""The exceptions: what they say, which errno they carry, and that it is never 0."""

import errno

import pytest

from engine import errors, ntstatus


@pytest.mark.parametrize(
    ("status", "leaf"),
    [
        (ntstatus.STATUS_OBJECT_NAME_NOT_FOUND, errors.NotFound),
        (ntstatus.STATUS_OBJECT_PATH_NOT_FOUND, errors.NotFound),
        (ntstatus.STATUS_NO_SUCH_FILE, errors.NotFound),
        (ntstatus.STATUS_ACCESS_DENIED, errors.AccessDenied),
        (ntstatus.STATUS_OBJECT_NAME_COLLISION, errors.AlreadyExists),
        (ntstatus.STATUS_SHARING_VIOLATION, errors.SharingViolation),
        (ntstatus.STATUS_DELETE_PENDING, errors.DeletePending),
        (ntstatus.STATUS_END_OF_FILE, errors.EndOfFile),
        (ntstatus.STATUS_DISK_FULL, errors.NoSpace),
        (ntstatus.STATUS_NOT_SUPPORTED, errors.NotSupported),
        (ntstatus.STATUS_NO_MORE_FILES, errors.NoMoreFiles),
        (ntstatus.STATUS_PATH_NOT_COVERED, errors.PathNotCovered),
        (ntstatus.STATUS_NETWORK_SESSION_EXPIRED, errors.SessionExpired),
        (ntstatus.STATUS_USER_SESSION_DELETED, errors.SessionDeleted),
        (ntstatus.STATUS_NETWORK_NAME_DELETED, errors.TreeGone),
        (ntstatus.STATUS_FILE_CLOSED, errors.FileClosed),
        (ntstatus.STATUS_LOGON_FAILURE, errors.LogonFailure),
        (ntstatus.STATUS_FILE_LOCK_CONFLICT, errors.LockNotGranted),
        (ntstatus.STATUS_STOPPED_ON_SYMLINK, errors.StoppedOnSymlink),
        (ntstatus.STATUS_IO_TIMEOUT, errors.NtStatusError),
        (0xC0001234, errors.NtStatusError),
    ],
)
def test_the_status_chooses_the_leaf(status: int, leaf: type[errors.NtStatusError]) -> None:
    error = errors.error_from_status(status)
    info = ntstatus.lookup(status)
    assert type(error) is leaf
    assert (error.status, error.name, error.errno, error.meaning) == info[:3] + info[4:]


def test_what_it_says() -> None:
    status = ntstatus.STATUS_OBJECT_NAME_NOT_FOUND
    sentence = "there is no such file or folder (STATUS_OBJECT_NAME_NOT_FOUND)"
    assert str(errors.error_from_status(status)) == sentence
    assert str(errors.error_from_status(status, "open a.txt")) == f"open a.txt: {sentence}"
    assert "STATUS_0xC0001234" in str(errors.error_from_status(0xC0001234))


def test_errno_is_never_zero() -> None:
    for status in (ntstatus.STATUS_SUCCESS, ntstatus.STATUS_PENDING, 0xC0001234):
        assert errors.error_from_status(status).errno == errno.EIO
    assert errors.TransportError("lost", errno=0).errno == errno.EIO


@pytest.mark.parametrize(
    "kind", [errors.SmbError, errors.LocalProtocolError, errors.RemoteProtocolError, errors.TransportError]
)
def test_the_default_is_an_input_output_error(kind: type[errors.SmbError]) -> None:
    assert kind("what happened").errno == errno.EIO
    assert str(kind("what happened")) == "what happened"
    assert isinstance(kind(), errors.SmbError)


def test_a_transport_error_says_how() -> None:
    assert errors.TransportError("no answer", errno=errno.EHOSTDOWN).errno == errno.EHOSTDOWN


def test_an_auth_error_knows_the_status_if_there_was_one() -> None:
    assert errors.AuthError("no ticket").status is None
    assert errors.AuthError("no ticket").errno == errno.EACCES
    refused = errors.AuthError("no", status=ntstatus.STATUS_ACCOUNT_DISABLED, errno=errno.EKEYREVOKED)
    assert (refused.status, refused.errno) == (ntstatus.STATUS_ACCOUNT_DISABLED, errno.EKEYREVOKED)


def test_names_of_any_kind_can_be_printed() -> None:
    error = errors.error_from_status(ntstatus.STATUS_OBJECT_NAME_NOT_FOUND, "stat a\x1b[2J\ud800 ü.txt")
    assert str(error).startswith("stat a\\x1b[2J\\ud800 ü.txt: ")
    str(error).encode("utf-8")

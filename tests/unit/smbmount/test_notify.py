"""What is written to the kernel where pyfuse3 has no call for it."""

from __future__ import annotations

import errno
import os
import struct

import pytest
import trio

from smbmount import notify
from smbmount.notify import Notifier


def test_numbers_to_forget_go_out_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(notify, "_device", lambda: writer)
    try:
        trio.run(Notifier().release, [2, 1 << 63])
        message = os.read(reader, 1000)
    finally:
        os.close(reader)
        os.close(writer)
    length, code, unique = struct.unpack_from("=IiQ", message)
    count, *zeros = struct.unpack_from("=IIQ", message, 16)
    assert (length, code, unique) == (len(message), 9, 0)
    assert (count, *zeros) == (2, 0, 0)
    assert struct.unpack_from("=2Q", message, 32) == (2, 1 << 63)


def test_a_kernel_that_cannot_forget_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = 0

    def refuse() -> int:
        nonlocal asked
        asked += 1
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    async def main() -> None:
        notifier = Notifier()
        await notifier.release([2])
        await notifier.release([3])

    monkeypatch.setattr(notify, "_device", refuse)
    with caplog.at_level("INFO"):
        trio.run(main)
    assert asked == 1
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_without_a_mount_there_is_no_device() -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        notify._device()

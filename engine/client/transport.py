"""A TCP connection that carries SMB2 frames ([MS-SMB2] 2.1): four bytes of length, then the frame.

Sending never waits: what the socket does not take at once is queued, and `run_writer` sends it. The
queue is bounded by the credits of the floor above. Receiving reads small frames in batches through
one staging buffer and large ones straight into the buffer that their data will be read from.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
import termios
from collections import deque
from collections.abc import Sequence
from typing import Final

import trio

from engine.client.buffers import BufferPool
from engine.errors import (
    HostUnknown,
    NoSmbServer,
    NotWelcome,
    RemoteProtocolError,
    SmbError,
    TransportError,
)
from engine.wire.primitives import Buffer

_STAGING: Final = 64 * 1024
"""One system call takes that much; a larger frame's first part is copied out of it, the rest is not."""

_MAX_BUFFERS: Final = 64
"""Buffers per sendmsg; the kernel's limit is 1024, and long vectors gain nothing."""

_BYTES_PER_TURN: Final = 64 * 1024
"""How much is sent before other tasks get their turn. Sending a large frame takes longer than answering the
kernel, whose next request would wait for it: writing a file took a fifth longer without turns."""

_TAG_ROOM: Final = 16
"""Behind each frame, for the decryption to put the authentication tag behind its ciphertext."""

_ONLY_SMB: Final = 1 << 24
"""A frame's length has three bytes; the first one of its four is 0 ([MS-SMB2] 2.1)."""
_NEGATIVE_RESPONSE: Final = 0x83
"""What NetBIOS says there to who may not begin a session (RFC 1002 4.3.4); so does Samba (`hosts allow`)."""

_UPLOAD: Final = 16 * 1024
"""Bytes that have to arrive at the server's end to be a sign of life. An ECHO is less: the system there takes
it also if the server hangs, but no more than its buffers hold from us if the server does not read on."""

_SMALL: Final = 1024
"""A frame that carries no data of a file or folder has no more bytes: that such come is no download."""

_RETRANSMITS: Final = 2
"""Index of tcpi_retransmits in tcp(7)'s struct tcp_info."""
_TCP_INFO_SIZE: Final = 8

FRAME_LIMIT_UNNEGOTIATED: Final = 64 * 1024
"""No server says more than this before it has told its limits."""


async def open_transport(host: str, port: int, pool: BufferPool) -> Transport:
    """Connect to `host` (a name or an address) on TCP `port`.

    The caller bounds the time. Raises `TransportError` in plain words if nothing answers there.
    """
    try:
        stream = await trio.open_tcp_stream(host, port)
    except socket.gaierror as error:
        raise HostUnknown(
            f"the host name {host!r} cannot be resolved: check its spelling and the name service"
        ) from error
    except UnicodeError as error:
        raise HostUnknown(f"the host name {host!r} cannot be resolved: no host can have that name") from error
    except OSError as error:
        raise _connect_error(host, port, error) from error
    sock = socket.socket(fileno=stream.socket.detach())
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return Transport(sock, pool, str(sock.getpeername()[0]))
    except OSError as error:
        sock.close()
        raise _lost(error) from error


def _connect_error(host: str, port: int, error: OSError) -> TransportError:
    causes: list[BaseException] = [error]
    if isinstance(error.__cause__, BaseExceptionGroup):
        causes += error.__cause__.exceptions
    number = next((cause.errno for cause in causes if isinstance(cause, OSError) and cause.errno), errno.EIO)
    if number == errno.ECONNREFUSED:
        words = f"nothing listens on TCP port {port} of {host}: check the port and that the server runs"
    else:
        words = f"cannot connect to {host} port {port}: {os.strerror(number)}"
    return TransportError(words, errno=number)


class Transport:
    """Frames over one non-blocking socket, which it owns."""

    def __init__(self, sock: socket.socket, pool: BufferPool, remote_address: str = "") -> None:
        self.remote_address = remote_address
        """The peer's IP address, also after the connection is gone."""
        self._sock = sock
        self._pool = pool
        self._queue: deque[Buffer] = deque()
        self._queue_filled = trio.Event()
        self._staging = memoryview(bytearray(_STAGING))
        self._start = 0
        self._end = 0
        self._emptied = True
        self._closed = False
        self._last_heard = trio.current_time()
        self._handed = 0
        self._sent_when_heard = 0
        self._sent = 0
        self._arrived = 0
        self.downloaded = 0
        """Bytes that have come of frames with data, also of one that is not here as a whole yet."""
        self.frame_limit = FRAME_LIMIT_UNNEGOTIATED
        self._heard_smb = False
        """Bytes that a frame may have; a longer one ends the connection before anything is allocated."""

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Send one frame, now or by and by; raises `TransportError` if the connection is gone."""
        if self._closed:
            raise TransportError("the connection is closed", errno=errno.EIO)
        length = sum(map(len, buffers))
        vector: list[Buffer] = [length.to_bytes(4, "big"), *buffers]
        self._handed += 4 + length
        if self._queue:
            self._queue.extend(vector)
            return
        self._queue.extend(vector)
        self._send_some()
        if self._queue:
            self._queue_filled.set()

    async def run_writer(self) -> None:
        """Send what `send` could not, until cancelled or closed; raises `TransportError` on failure."""
        while not self._closed:
            await self._queue_filled.wait()
            self._queue_filled = trio.Event()
            while self._queue:
                if self._send_some():
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_writable(self._sock)

    def _send_some(self) -> bool:
        """Send for one turn; returns False if the socket takes no more for now."""
        queue = self._queue
        left = _BYTES_PER_TURN
        while queue and left > 0:
            vector = [queue[index] for index in range(min(len(queue), _MAX_BUFFERS))]
            try:
                sent = self._sock.sendmsg(vector)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                raise _lost(error) from error
            left -= sent
            self._sent += sent
            while queue and sent >= len(queue[0]):
                sent -= len(queue.popleft())
            if sent:
                queue[0] = memoryview(queue[0])[sent:]
        return True

    async def receive(self) -> tuple[memoryview, int]:
        """Wait for the next frame; return a buffer, 16 bytes longer than the frame, and its length.

        Raises `TransportError` when the connection ends, `RemoteProtocolError` on a frame that is
        longer than `frame_limit` or is no SMB2 frame.
        """
        while self._end - self._start < 4:
            await self._fill_staging()
        prefix = int.from_bytes(self._staging[self._start : self._start + 4], "big")
        if prefix >= _ONLY_SMB and not self._heard_smb:
            raise _stranger(prefix)
        if prefix > self.frame_limit:
            raise RemoteProtocolError(
                f"the server announced a frame of {prefix} bytes where at most {self.frame_limit} may come"
            )
        self._heard_smb = True
        self._start += 4
        buffer = self._pool.allocate(prefix + _TAG_ROOM)
        staged = min(prefix, self._end - self._start)
        buffer[:staged] = self._staging[self._start : self._start + staged]
        self._start += staged
        has_data = prefix > _SMALL
        if has_data:
            self.downloaded += staged
        while staged < prefix:
            received = await self._receive_into(buffer[staged:prefix])
            staged += received
            if has_data:
                self.downloaded += received
        return buffer, prefix

    @property
    def has_staged(self) -> bool:
        """Whether the next frame's beginning is here already, so that `receive` may not wait at all."""
        return self._end > self._start

    async def _fill_staging(self) -> None:
        left = self._end - self._start
        if self._start:
            self._staging[:left] = bytes(self._staging[self._start : self._end])
            self._start = 0
            self._end = left
        if self._closed:
            raise trio.ClosedResourceError
        if self._emptied:
            # A system call to learn that there is nothing costs as much as one that brings something.
            await trio.lowlevel.wait_readable(self._sock)
        self._end += await self._receive_into(self._staging[left:])

    async def _receive_into(self, view: memoryview) -> int:
        while True:
            try:
                received = self._sock.recv_into(view)
            except (BlockingIOError, InterruptedError):
                await trio.lowlevel.wait_readable(self._sock)
                continue
            except OSError as error:
                raise _lost(error) from error
            if not received:
                raise TransportError("the server closed the connection", errno=errno.EHOSTDOWN)
            self._last_heard = trio.current_time()
            self._sent_when_heard = self._handed
            self._emptied = received < len(view)
            return received

    @property
    def last_heard(self) -> float:
        """When, in trio's clock, there was a sign of life: bytes came, less than a frame too, or data arrived
        at the server's end since the last look at this."""
        arrived = self._sent - self._unacknowledged()
        if not self._closed and arrived - self._arrived >= _UPLOAD:
            self._arrived = arrived
            self._last_heard = trio.current_time()
        return self._last_heard

    @property
    def sent_since_heard(self) -> int:
        """Bytes that were to be sent since the last byte came."""
        return self._handed - self._sent_when_heard

    @property
    def retransmissions(self) -> int:
        """How often TCP has sent what it waits to be acknowledged again, each time after a longer pause."""
        if self._closed:
            return 0
        info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
        return info[_RETRANSMITS]

    @property
    def upload(self) -> tuple[int, int]:
        """Bytes that were to be sent so far, and how many of them have arrived at the server's end."""
        return self._handed, self._sent - self._unacknowledged()

    def _unacknowledged(self) -> int:
        """Bytes in the socket that the peer's TCP has not confirmed: SIOCOUTQ, tcp(7)."""
        if self._closed:
            return 0
        (count,) = struct.unpack("i", fcntl.ioctl(self._sock, termios.TIOCOUTQ, bytes(4)))
        return int(count)

    def release_buffers(self) -> None:
        """Let go of the receive buffers that nobody uses; the next large frames need new ones."""
        self._pool.release()

    def close(self) -> None:
        """Close the socket; tasks that wait on it get `trio.ClosedResourceError`."""
        if not self._closed:
            self._closed = True
            self._queue.clear()
            self._queue_filled.set()
            trio.lowlevel.notify_closing(self._sock)
            with contextlib.suppress(OSError):
                self._sock.close()


def _stranger(prefix: int) -> SmbError:
    """What a connection means that begins with such a byte."""
    if prefix >> 24 == _NEGATIVE_RESPONSE:
        return NotWelcome(
            "the server lets nobody in from this address: have it allowed there (Samba: hosts allow)",
            errno=errno.ECONNREFUSED,
        )
    return NoSmbServer(
        f"the server announced a frame of {prefix} bytes, so it speaks no SMB: check its name and the port"
    )


def _lost(error: OSError) -> TransportError:
    return TransportError(
        f"the connection was lost: {os.strerror(error.errno or errno.EIO)}", errno=errno.EHOSTDOWN
    )

"""The control socket: what `smbmountctl` asks of a running mount.

A client sends one line of JSON and gets lines of JSON, the last of which holds `"ok"`; what the lines
mean is in docs/man/smbmountctl.1. Only the mount's owner and root are heard. A client has a deadline
for its request and one for taking the reply, and there are never more than `CLIENTS`, so none can hold
the mount up or fill its memory. A client that leaves cancels what it asked for.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import trio

from engine import NotSupported, NtStatusError, SmbError
from smbmount import controlpath
from smbmount.explain import one_line
from smbmount.vfs.copies import Copied, Copies
from smbmount.vfs.errors import PosixError
from smbmount.vfs.signals import postpone_deadline

logger = logging.getLogger(__name__)

CLIENTS: Final = 8
REQUEST_SECONDS: Final = 10.0
REPLY_SECONDS: Final = 10.0
PROGRESS_SECONDS: Final = 0.5
"""Between two words on a copy's progress. They come also while there is none, as a sign of life."""
_FORGET_SECONDS: Final = 5.0
"""For the kernel to forget a name; if it does not, it believes its own old knowledge for `actimeo`."""
_ACCEPT_PAUSE: Final = 0.2
"""After a connection that could not be accepted, as where descriptors have run out."""
_BACKLOG: Final = 16

Reply = Mapping[str, object]


class BadRequest(ValueError):
    """The line is no request; the message says why."""


@dataclass(slots=True, frozen=True)
class CopyRequest:
    """`{"command": "cp", "source": […], "target": […]}`: the parts of two paths below the mount's root."""

    source: list[bytes]
    target: list[bytes]
    no_clobber: bool
    keep_time: bool


@dataclass(slots=True, frozen=True)
class StatusRequest:
    """`{"command": "status"}`."""


def parse_request_untrusted(line: bytes) -> CopyRequest | StatusRequest:
    """Read a client's line; raises `BadRequest` and nothing else."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        raise BadRequest("a request is one line of JSON") from None
    if not isinstance(content, dict):
        raise BadRequest("a request is a JSON object")
    match content.get("command"):
        case "status":
            return StatusRequest()
        case "cp":
            return CopyRequest(
                _path_untrusted(content.get("source")),
                _path_untrusted(content.get("target")),
                content.get("no_clobber") is True,
                content.get("keep_time") is True,
            )
    raise BadRequest("the command is not known")


def _path_untrusted(parts: object) -> list[bytes]:
    if not isinstance(parts, list):
        raise BadRequest("a path is a list of names")
    found = []
    for part in parts:
        if not isinstance(part, str) or "/" in part or "\0" in part:
            raise BadRequest("a path is a list of names")
        try:
            found.append(os.fsencode(part))
        except UnicodeEncodeError:
            raise BadRequest("a name is not made of bytes") from None
    return found


@dataclass(slots=True)
class _Progress:
    done: int = 0
    total: int = 0

    def tell(self, done: int, total: int) -> None:
        self.done, self.total = done, total


@dataclass(slots=True)
class Control:
    """The socket's server.

    `status` makes the reply to that command; `forget_entry(folder number, name)` has the kernel ask for a
    name again; `timeout` is the seconds without progress after which a copy is given up.
    """

    copies: Copies
    status: Callable[[], Reply]
    forget_entry: Callable[[int, bytes], Awaitable[None]]
    timeout: float
    _clients: int = field(default=0, init=False)

    async def serve(
        self,
        device: str,
        environ: Mapping[str, str] = os.environ,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen for clients of the mount on `device`, `major:minor`, until cancelled.

        Without a place for the socket this is logged, and the mount works all the same.
        """
        with ExitStack() as stack:
            try:
                listener = stack.enter_context(_listening(device, environ))
            except OSError as error:
                logger.warning("smbmountctl cannot reach this mount: %s", error)
                task_status.started()
                return
            task_status.started()
            async with trio.open_nursery() as nursery:
                while True:
                    try:
                        connection, _ = await listener.accept()
                    except OSError as error:
                        logger.debug("no connection could be accepted: %s", error)
                        await trio.sleep(_ACCEPT_PAUSE)
                        continue
                    self._receive(connection, nursery)

    def _receive(self, connection: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        if not _is_allowed(connection):
            _dismiss(connection, _refused("only the mount's owner and root may ask"))
        elif self._clients >= CLIENTS:
            _dismiss(connection, _failed("too many others are asking: try again"))
        else:
            self._clients += 1
            nursery.start_soon(self._talk, trio.SocketStream(connection))

    async def _talk(self, stream: trio.SocketStream) -> None:
        try:
            async with stream:
                with trio.fail_after(REQUEST_SECONDS):
                    line = await _read_line(stream)
                reply = await self._answer(line, stream)
                with trio.fail_after(REPLY_SECONDS):
                    await stream.send_all(_encode(reply))
        except (trio.BrokenResourceError, trio.TooSlowError, EOFError) as error:
            logger.debug("a client of the control socket is gone: %r", error)
        except Exception:
            logger.exception("a client of the control socket met a mistake of this program")
        finally:
            self._clients -= 1

    async def _answer(self, line: bytes, stream: trio.SocketStream) -> Reply:
        try:
            request = parse_request_untrusted(line)
        except BadRequest as error:
            return _refused(str(error))
        if isinstance(request, StatusRequest):
            return {"ok": True, **self.status()}
        return await self._copy(request, stream)

    async def _copy(self, request: CopyRequest, stream: trio.SocketStream) -> Reply:
        """Copy while the client stays; raises `EOFError` if it leaves."""
        progress = _Progress()
        reply: Reply | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_leave_with, stream, nursery.cancel_scope)
            nursery.start_soon(_report, stream, progress)
            reply = await self._copy_within_deadline(request, progress)
            nursery.cancel_scope.cancel()
        if reply is None:
            raise EOFError("the client left during a copy")
        return reply

    async def _copy_within_deadline(self, request: CopyRequest, progress: _Progress) -> Reply:
        try:
            with _deadline(self.timeout):
                copied = await self.copies.copy(
                    request.source,
                    request.target,
                    no_clobber=request.no_clobber,
                    keep_time=request.keep_time,
                    progress=progress.tell,
                )
        except NotSupported as error:
            return _failed(f"the server cannot copy by itself ({error.name}): use cp")
        except NtStatusError as error:
            return _failed(f"{error.meaning} ({error.name})")
        except PosixError as error:
            reason = error.strerror or str(error)
            return _failed(reason) if error.errno == errno.EIO else _refused(reason)
        except (SmbError, OSError) as error:
            return _failed(one_line(str(error)))
        except trio.TooSlowError:
            return _failed(f"the server made no progress for {self.timeout:g} s")
        if copied is None:
            return {"ok": True, "skipped": True}
        await self._forget(copied)
        return {"ok": True, "bytes": copied.size}

    async def _forget(self, copied: Copied) -> None:
        with trio.move_on_after(_FORGET_SECONDS):
            for number in copied.folder_numbers:
                await self.forget_entry(number, copied.name)


@contextmanager
def _listening(device: str, environ: Mapping[str, str]) -> Iterator[trio.socket.SocketType]:
    """The socket in the first folder that will do, until the block ends; raises the last one's `OSError`."""
    owner, name = os.geteuid(), controlpath.socket_name(device)
    failure: OSError = FileNotFoundError(errno.ENOENT, "there is no folder for its socket")
    for path in controlpath.folders(owner, environ):
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(controlpath.opened_folder(path, owner, make=True))
                listener = stack.enter_context(_bound(folder, name))
            except OSError as error:
                failure = error
                continue
            yield trio.socket.from_stdlib_socket(listener)
            return
    raise failure


@contextmanager
def _bound(folder: int, name: str) -> Iterator[socket.socket]:
    """The listening socket. No two mounts that live have the same device, so one that is there is stale.

    Nor is it removed at the end unless it is ours: the device is free once the mount is gone, and the next
    mount that gets it may have been quicker than we are.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as listener:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        # Linux gives the socket in the folder the mode of the descriptor: it never has another.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(controlpath.address(folder, name))
        made = _file_number(folder, name)
        try:
            listener.listen(_BACKLOG)
            listener.setblocking(False)
            yield listener
        finally:
            with suppress(FileNotFoundError):
                if _file_number(folder, name) == made:
                    os.unlink(name, dir_fd=folder)


def _file_number(folder: int, name: str) -> int:
    return os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino


def _is_allowed(connection: trio.socket.SocketType) -> bool:
    return controlpath.peer_user(connection) in (0, os.geteuid())


def _dismiss(connection: trio.socket.SocketType, reply: Reply) -> None:
    """A last word without waiting: a connection that is new has room for it."""
    _write_now(connection, _encode(reply))
    connection.close()


def _write_now(connection: trio.socket.SocketType, line: bytes) -> bool:
    """Write without waiting; whether the line is out whole, or not at all."""
    try:
        return os.write(connection.fileno(), line) == len(line)
    except BlockingIOError:
        return True
    except OSError:
        return False


async def _read_line(stream: trio.SocketStream) -> bytes:
    """The first line of a client; `EOFError` if it leaves. A line that is too long comes cut off."""
    content = bytearray()
    while b"\n" not in content and len(content) < controlpath.MAX_LINE:
        received = await stream.receive_some(controlpath.MAX_LINE - len(content))
        if not received:
            raise EOFError("the client left before its request")
        content += received
    return bytes(content.partition(b"\n")[0])


async def _leave_with(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    """Cancel when the client goes, or says something although it was not its turn."""
    with suppress(trio.BrokenResourceError):
        await stream.receive_some(1)
    scope.cancel()


async def _report(stream: trio.SocketStream, progress: _Progress) -> None:
    """Tell the client how far it is. One that does not listen misses it: a copy waits for nobody."""
    while True:
        if not _write_now(stream.socket, _encode({"done": progress.done, "total": progress.total})):
            # Half a line: what follows would make no sense.
            with suppress(OSError):
                stream.socket.shutdown(socket.SHUT_RDWR)
            return
        await trio.sleep(PROGRESS_SECONDS)


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise `trio.TooSlowError` after so many seconds without progress; see `postpone_deadline`."""
    with trio.fail_after(seconds) as scope:

        def postpone() -> None:
            scope.deadline = trio.current_time() + seconds

        token = postpone_deadline.set(postpone)
        try:
            yield
        finally:
            postpone_deadline.reset(token)


def _encode(reply: Reply) -> bytes:
    return json.dumps(reply).encode() + b"\n"


def _refused(reason: str) -> Reply:
    return {"ok": False, "kind": "refused", "error": reason}


def _failed(reason: str) -> Reply:
    return {"ok": False, "kind": "failed", "error": reason}

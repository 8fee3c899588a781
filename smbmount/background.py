"""In the background: a child process that serves, and its word to the parent that waits for it.

The fork comes before trio starts. The parent waits for the child's verdict, one message through a
pipe: an exit code and the line to print; it exits with that code, so 0 means that the mount works.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from smbmount.failures import ExitCode, MountFailure

Serve = Callable[[Callable[[], None]], None]
"""Runs a mount to its end, calling its argument once the mount works; raises `MountFailure`."""

INTERNAL_ERROR: Final = "an internal error ended smbmount: run again with -f -d and report the traceback"

_INTERRUPTIONS: Final = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the child tells its parent."""

    code: ExitCode
    message: str = ""

    def encode(self) -> bytes:
        """The bytes for the pipe."""
        return b"%d\n%s" % (self.code, self.message.encode("utf-8", "surrogateescape"))

    @classmethod
    def decode(cls, content: bytes) -> Verdict:
        """Read what `encode` made; nothing at all means that the child died without a word."""
        code, _, message = content.partition(b"\n")
        if not code:
            return cls(ExitCode.INTERNAL, INTERNAL_ERROR)
        return cls(ExitCode(int(code)), message.decode("utf-8", "surrogateescape"))


def serve_in_background(serve: Serve, *, keep_stderr: bool = False) -> ExitCode:
    """Fork; the child serves. Returns in the parent when the mount works, in the child when it ends.

    Raises `MountFailure` in the parent if the child could not mount.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    # An interruption waits until it can be passed on, or the child would mount when nobody expects it.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTIONS)
    try:
        pid = os.fork()
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        raise MountFailure(f"cannot start a process: {error.strerror}", ExitCode.SYSTEM) from None
    if pid == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        return _be_child(serve, writer, keep_stderr=keep_stderr)
    os.close(writer)
    verdict = _await_verdict(reader, pid, unblocked)
    if verdict.code is not ExitCode.SUCCESS:
        os.waitpid(pid, 0)
        raise MountFailure(verdict.message, verdict.code)
    return ExitCode.SUCCESS


def _await_verdict(reader: int, pid: int, unblocked: set[signal.Signals | int]) -> Verdict:
    """Wait for the child. An interruption is passed on to it, and its own verdict then says so."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with open(reader, "rb") as pipe:
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
                return Verdict.decode(pipe.read())
            except KeyboardInterrupt:
                os.kill(pid, signal.SIGTERM)
                pipe.read()
                raise
    finally:
        signal.signal(signal.SIGTERM, previous)


def _be_child(serve: Serve, writer: int, *, keep_stderr: bool) -> ExitCode:
    os.setsid()
    os.chdir("/")
    os.umask(0)
    _close_all_but(writer)
    _to_dev_null(0)
    told = False

    def ready() -> None:
        nonlocal told
        told = True
        _to_dev_null(1)
        if not keep_stderr:
            _to_dev_null(2)
        _tell(writer, Verdict(ExitCode.SUCCESS))

    try:
        serve(ready)
    except MountFailure as failure:
        if not told:
            _tell(writer, Verdict(failure.code, str(failure)))
        return failure.code
    return ExitCode.SUCCESS


def _close_all_but(kept: int) -> None:
    """A daemon that inherits a caller's pipe or lock would hold it as long as the mount lives."""
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def _to_dev_null(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, descriptor)
    os.close(null)


def _tell(writer: int, verdict: Verdict) -> None:
    with open(writer, "wb") as pipe:
        pipe.write(verdict.encode())

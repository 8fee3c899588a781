"""The command `smbmountctl`: it asks a running mount for its state, and for copies on the server.

It finds the mount in the mount table and talks to its daemon; a mount that hangs is not touched.
"""

from __future__ import annotations

import ctypes
import errno
import getopt
import json
import os
import socket
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import smbmount
from smbmount import controlpath
from smbmount.dfs import dfs_lines_untrusted, find_steps
from smbmount.failures import ExitCode, MountFailure
from smbmount.mounttable import FUSE_TYPE, MountEntry, read_mounts
from smbmount.statustext import size_text, status_lines_untrusted

USAGE: Final = (
    "smbmountctl cp [-n] [-p] SOURCE TARGET | smbmountctl status [--json] MOUNTPOINT | "
    "smbmountctl dfs [--json] [-o OPTIONS] MOUNTPOINT|//SERVER/SHARE[/FOLDER] | "
    "smbmountctl doctor [--json] [-o OPTIONS] //SERVER/SHARE[/FOLDER]"
)

_HELP: Final = f"""usage: {USAGE}

Ask a running smbmount.

  cp SOURCE TARGET    copy a file within a mount on the server, without moving its data over the network;
                      TARGET is a new name, a file to be replaced, or a folder
    -n                leave TARGET alone if it exists
    -p                keep the time of the last change
  status MOUNTPOINT   show the connection, its counters, and what is not written yet
    --json            the same as JSON, for programs
  dfs MOUNTPOINT      show the DFS referrals that led to its server, and their other targets
  dfs //SERVER/SHARE[/FOLDER]
                      the same without a mount: the way is gone once, with the options of smbmount
    -o OPTIONS        as for smbmount, but no password: credentials=FILE, or type it
    --json            the same as JSON, for programs
  doctor //SERVER/SHARE[/FOLDER]
                      go the way of a mount step by step, and say at the first that fails what is wrong
    -o OPTIONS        as above
    --json            the same as JSON, for programs
  -V, --version       show the version
  -h, --help          show this help
"""

_SILENCE_SECONDS: Final = 30.0
"""The daemon speaks twice a second while it copies; one that is silent for so long hangs."""
_MAX_REPLY: Final = 1 << 20
_MAX_SIZE: Final = (1 << 63) - 1
_MAX_LINKS: Final = 40
_SYNC_FILE_RANGE: Final = 7
"""WAIT_BEFORE, WRITE and WAIT_AFTER: sync_file_range(2)."""


class CtlError(Exception):
    """What was asked for cannot be done; `str()` is one line that says why and what to do."""

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Location:
    """A path on a mount: the names that lead to it from the root of the mounted file system."""

    mount: MountEntry
    parts: tuple[str, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 1 (usage, or refused) or 2 (the system, or the server, failed)."""
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except CtlError as error:
        _complain(str(error))
        return error.code
    except KeyboardInterrupt:
        _complain("interrupted")
        return ExitCode.SYSTEM
    except OSError as error:
        _complain(f"{error.filename or 'the system'}: {error.strerror or error}")
        return ExitCode.SYSTEM


def _complain(sentence: str) -> None:
    sys.stderr.write(f"smbmountctl: {_printable(' '.join(sentence.split()))}\n")
    sys.stderr.flush()


def _printable(text: str) -> str:
    """The text with control characters and lone surrogates as escapes: a terminal may obey them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _run(argv: list[str]) -> int:
    command, arguments = (argv[0], argv[1:]) if argv else ("", [])
    match command:
        case "cp":
            flags, (source, target) = _options(arguments, "np", (), 2)
            copy(source, target, no_clobber="-n" in flags, keep_time="-p" in flags)
        case "status":
            flags, (path,) = _options(arguments, "", ("json",), 1)
            show_status(path, as_json="--json" in flags)
        case "dfs":
            show_dfs(arguments)
        case "doctor":
            return see_doctor(arguments)
        case "-h" | "--help":
            sys.stdout.write(_HELP)
        case "-V" | "--version":
            sys.stdout.write(f"smbmountctl {smbmount.__version__}\n")
        case _:
            problem = f"there is no command {command!r}" if command else "a command is needed"
            raise CtlError(f"{problem}; usage: {USAGE}")
    return ExitCode.SUCCESS


def _options(arguments: list[str], short: str, long: Sequence[str], count: int) -> tuple[set[str], list[str]]:
    try:
        given, positional = getopt.gnu_getopt(arguments, short, list(long))
    except getopt.GetoptError as error:
        raise CtlError(f"{error.msg}; see smbmountctl --help") from None
    if len(positional) != count or not all(positional):
        raise CtlError(f"{count} path{'s' if count > 1 else ''} must be given; usage: {USAGE}")
    return {flag for flag, _ in given}, positional


def _options_with_values(arguments: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    try:
        given, positional = getopt.gnu_getopt(arguments, "o:", ["json"])
    except getopt.GetoptError as error:
        raise CtlError(f"{error.msg}; see smbmountctl --help") from None
    if len(positional) != 1 or not positional[0]:
        raise CtlError(f"1 path must be given; usage: {USAGE}")
    return given, positional


# Finding the mount


def locate(path: str, mounts: Sequence[MountEntry]) -> Location:
    """The mount that a path is on. What is on the mount is not touched, only the way there.

    Symbolic links on the way are followed, those on the mount are left to the daemon. Raises `CtlError`.
    """
    visible = {entry.mountpoint: entry for entry in mounts}
    pending = deque(os.path.join(os.getcwd(), path).split("/"))
    here, links = "/", 0
    while pending:
        part = pending.popleft()
        if part in ("", "."):
            continue
        step = os.path.dirname(here) if part == ".." else os.path.join(here, part)
        entry = visible.get(step)
        if entry is not None and entry.type == FUSE_TYPE:
            if next((part for part in pending if part not in ("", ".")), "") == "..":
                here = step
                continue
            return _below(entry, pending, visible, path)
        with suppress(OSError):
            target = os.readlink(step)
            links += 1
            if links > _MAX_LINKS:
                raise CtlError(f"{path}: too many symbolic links")
            pending.extendleft(reversed(target.split("/")))
            step = "/" if target.startswith("/") else here
        here = step
    raise CtlError(f"{path} is not on an smbmount: use cp, or give a path on one")


def _below(entry: MountEntry, pending: deque[str], visible: Mapping[str, MountEntry], path: str) -> Location:
    """The rest of a path that has reached the mount `entry`: other mounts may stand on it."""
    here = entry.mountpoint
    rest = list(pending)
    for index, part in enumerate(rest):
        if part == "..":
            break
        here = os.path.join(here, part) if part not in ("", ".") else here
        other = visible.get(here, entry)
        if other is not entry and here != entry.mountpoint:
            if other.type != FUSE_TYPE:
                raise CtlError(f"{path} is not on an smbmount: another file system is mounted on {here}")
            return _below(other, deque(rest[index + 1 :]), visible, path)
    return Location(entry, (*entry.root.split("/"), *rest))


# Talking to the daemon


def converse(mount: MountEntry, request: Mapping[str, object]) -> Iterator[dict[str, Any]]:
    """Send a request to a mount's daemon and yield its replies, until the last or for as long as one listens.

    Raises `CtlError` if it cannot be reached, falls silent or goes away.
    """
    with _connected(mount) as connection:
        connection.settimeout(_SILENCE_SECONDS)
        try:
            # A daemon that will not hear us has said so, and hung up.
            with suppress(BrokenPipeError):
                connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                while line := lines.readline(_MAX_REPLY):
                    reply = read_reply_untrusted(line)
                    yield reply
                    if "ok" in reply:
                        return
        except TimeoutError:
            raise CtlError(f"{_name(mount)} does not answer: it may hang", ExitCode.SYSTEM) from None
        except OSError as error:
            raise CtlError(f"{_name(mount)} broke off: {error}", ExitCode.SYSTEM) from None
    raise CtlError(f"{_name(mount)} ended before it had answered", ExitCode.SYSTEM)


def read_reply_untrusted(line: bytes) -> dict[str, Any]:
    """Read a line of a daemon, which root may ask though it is another user's; raises `CtlError`."""
    try:
        reply = json.loads(line)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict):
        raise _nonsense()
    return reply


def _nonsense() -> CtlError:
    return CtlError("the daemon's answer makes no sense: is it of another version?", ExitCode.SYSTEM)


@contextmanager
def _connected(mount: MountEntry) -> Iterator[socket.socket]:
    own = os.geteuid()
    owner = own if mount.owner is None else mount.owner
    if own not in (0, owner):
        raise CtlError(f"{mount.mountpoint} was mounted by user {owner}: ask as that user, or as root")
    failure: OSError | None = None
    for path in controlpath.folders(owner, os.environ, own=own == owner):
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(controlpath.opened_folder(path, owner))
                connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                connection.settimeout(_SILENCE_SECONDS)
                connection.connect(controlpath.address(folder, controlpath.socket_name(mount.device)))
            except OSError as error:
                if failure is None or error.errno not in (errno.ENOENT, errno.ENOTDIR):
                    failure = error
                continue
            if controlpath.peer_user(connection) != owner:
                raise CtlError(f"what listens in {path} is not user {owner}'s", ExitCode.SYSTEM)
            yield connection
            return
    why = failure.strerror if failure is not None else "no socket"
    raise CtlError(
        f"the daemon of {_name(mount)} cannot be reached ({why}): it has ended, or could not make its socket",
        ExitCode.SYSTEM,
    )


def _name(mount: MountEntry) -> str:
    return f"{mount.source} on {mount.mountpoint}"


# The commands


def copy(source: str, target: str, *, no_clobber: bool, keep_time: bool) -> None:
    """Copy a file on the server; raises `CtlError`."""
    tried = f"cannot copy {source} to {target}"
    mounts = read_mounts()
    of_source, of_target = locate(source, mounts), locate(target, mounts)
    if of_source.mount.device != of_target.mount.device:
        raise CtlError(f"{tried}: they are on different mounts: use cp")
    _write_pages_out(source, tried)
    request = {
        "command": "cp",
        "source": of_source.parts,
        "target": of_target.parts,
        "no_clobber": no_clobber,
        "keep_time": keep_time,
    }
    shows = sys.stderr.isatty()
    reply: dict[str, Any] = {}
    try:
        for reply in converse(of_source.mount, request):
            if shows and (line := progress_text_untrusted(reply)):
                sys.stderr.write(f"\r{line}\x1b[K")
                sys.stderr.flush()
    finally:
        if shows:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
    _check(reply, tried)


def _write_pages_out(path: str, tried: str) -> None:
    """Have the kernel hand over what programs changed through memory maps: only it knows of that.

    Root may be locked out of somebody's mount; then there is only the daemon to ask.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        start = ctypes.c_int64(0)
        if libc.sync_file_range(descriptor, start, start, _SYNC_FILE_RANGE):
            number = ctypes.get_errno()
            if number in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
                raise CtlError(
                    f"{tried}: {path} could not be written out: {os.strerror(number)}", ExitCode.SYSTEM
                )
    finally:
        os.close(descriptor)


def progress_text_untrusted(reply: Mapping[str, Any]) -> str:
    """How far a copy is by what a daemon says, for a person; "" where it says nothing of it."""
    done, total = reply.get("done"), reply.get("total")
    if isinstance(done, int) and isinstance(total, int) and 0 <= done <= total <= _MAX_SIZE and total:
        return progress_line(done, total)
    return ""


def progress_line(done: int, total: int) -> str:
    """How far a copy is, for a person."""
    return f"{100 * done // total:3d} %  {size_text(done)} of {size_text(total)}"


def _check(reply: Mapping[str, Any], tried: str) -> None:
    if not reply.get("ok"):
        code = ExitCode.USAGE if reply.get("kind") == "refused" else ExitCode.SYSTEM
        reason = reply.get("error")
        raise CtlError(f"{tried}: {reason if isinstance(reason, str) else 'no reason was given'}", code)


def show_status(path: str, *, as_json: bool) -> None:
    """Print what the daemon of the mount at `path` says of itself; raises `CtlError`."""
    mount = locate(path, read_mounts()).mount
    (reply,) = deque(converse(mount, {"command": "status"}), maxlen=1)
    _check(reply, f"cannot ask {_name(mount)}")
    del reply["ok"]
    sys.stdout.write(status_text_untrusted(reply, as_json=as_json))


def show_dfs(arguments: list[str]) -> None:
    """Print the referrals to a mount's server, or to a share that is not mounted; raises `CtlError`."""
    given, (path,) = _options_with_values(arguments)
    steps: object
    if path.startswith(("//", "\\\\")):
        try:
            steps = find_steps(path, [value for flag, value in given if flag == "-o"])
        except MountFailure as failure:
            raise CtlError(str(failure), failure.code) from None
    else:
        mount = locate(path, read_mounts()).mount
        (reply,) = deque(converse(mount, {"command": "status"}), maxlen=1)
        _check(reply, f"cannot ask {_name(mount)}")
        steps = reply.get("dfs")
    is_json = any(flag == "--json" for flag, _ in given)
    try:
        lines = json.dumps(steps, indent=2).splitlines() if is_json else dfs_lines_untrusted(steps)
    except (ValueError, RecursionError):
        raise _nonsense() from None
    sys.stdout.write("".join(f"{_printable(line)}\n" for line in lines))


def see_doctor(arguments: list[str]) -> ExitCode:
    """Print how far the way to a share goes; raises `CtlError` for options that are none."""
    # For this command alone: it needs the engine, which the others do without.
    import trio

    from smbmount import doctor, visits

    given, (source,) = _options_with_values(arguments)
    is_json = any(flag == "--json" for flag, _ in given)
    findings: list[doctor.Finding] = []

    def tell(finding: doctor.Finding) -> None:
        findings.append(finding)
        if not is_json:
            sys.stdout.write(f"{_printable(finding.line)}\n")
            sys.stdout.flush()

    try:
        decided = visits.decide(source, [value for flag, value in given if flag == "-o"])
    except MountFailure as failure:
        raise CtlError(str(failure), failure.code) from None
    is_well = trio.run(doctor.examine, decided, tell)
    if is_json:
        sys.stdout.write(json.dumps([one.as_dict() for one in findings], indent=2) + "\n")
    return ExitCode.SUCCESS if is_well else ExitCode.SYSTEM


def status_text_untrusted(status: Mapping[str, Any], *, as_json: bool) -> str:
    """The reply to `status` for a person, or for a program; raises `CtlError` if it is none."""
    try:
        lines = json.dumps(status, indent=2).splitlines() if as_json else status_lines_untrusted(status)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError, RecursionError):
        raise _nonsense() from None
    return "".join(f"{_printable(line)}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())

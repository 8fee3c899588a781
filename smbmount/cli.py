"""The command line: `smbmount //server/share MOUNTPOINT`, also as mount(8) calls it.

What is wrong with the arguments is said before anything heavy is loaded, and a password leaves argv
at once; so the modules that load the engine are imported inside functions.
"""

from __future__ import annotations

import ctypes
import dataclasses
import getopt
import getpass
import importlib.metadata
import logging
import os
import platform
import pwd
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import smbmount
from smbmount import credentials, hiding, options
from smbmount.failures import ExitCode, MountFailure
from smbmount.mountpoint import prepare_mountpoint

logger = logging.getLogger(__name__)

USAGE: Final = "smbmount //server[:port]/share[/sub/folder] MOUNTPOINT [-o option[,option...]] [-f] [-d] [-v]"

_HELP: Final = f"""usage: {USAGE}

Mount an SMB share as a folder. Goes to the background once the mount works; umount ends it.

  -o OPTIONS      mount options, see below; may be repeated
  -f              stay in the foreground
  -d              log everything to stderr
  -v              log what is done, not only what fails
  -V, --version   show versions
  -h, --help      show this help
  -n, -s, -t TYPE taken, as mount(8) gives them; -s is the option sloppy

Options, where '_' and '-' are alike and '\\,' is a comma inside a value:
"""


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command line, taken apart."""

    source: str
    mountpoint: str
    option_texts: tuple[str, ...]
    flags: tuple[str, ...]

    @property
    def foreground(self) -> bool:
        return "-f" in self.flags

    @property
    def debug(self) -> bool:
        return "-d" in self.flags

    @property
    def verbose(self) -> bool:
        return "-v" in self.flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code, an exit code of mount(8)."""
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except MountFailure as failure:
        _complain(str(failure))
        return failure.code
    except KeyboardInterrupt:
        _complain("interrupted")
        return ExitCode.INTERRUPTED
    except Exception:
        logger.exception("an internal error ended smbmount: please report it")
        return ExitCode.INTERNAL


def _complain(sentence: str) -> None:
    line = f"smbmount: {sentence}\n"
    sys.stderr.write(line.encode("utf-8", "backslashreplace").decode())
    sys.stderr.flush()


def _run(argv: list[str]) -> int:
    arguments = parse_arguments(argv)
    if arguments is None:
        return ExitCode.SUCCESS
    chosen = options.parse_options(*arguments.option_texts)
    restart = hiding.plan_restart(arguments.option_texts, chosen, os.environ)
    if restart is not None:
        hiding.restart(restart, [*arguments.flags, "-o", ",".join(restart.option_texts), "--",
                                 arguments.source, arguments.mountpoint])  # fmt: skip
    return _mount(arguments, chosen)


def _mount(arguments: Arguments, chosen: options.MountOptions) -> int:
    try:
        from smbmount import daemon, plan
    except ImportError as error:
        raise MountFailure(f"{error.msg}: install smbmount with all that it needs", ExitCode.SYSTEM) from None
    source, unc = plan.read_source(arguments.source, chosen.port)
    prefix = plan.read_prefix(unc, chosen)
    plan.check_may_share(chosen, os.geteuid())
    mountpoint = prepare_mountpoint(arguments.mountpoint, nonempty=chosen.nonempty, force=chosen.force)
    login = credentials.resolve_login(chosen, os.environ, _prompt(), _own_name())
    plan.check_has_kerberos(login)
    if chosen.credentials is not None:
        # It is read again later, when the working directory is another one.
        chosen = dataclasses.replace(chosen, credentials=os.path.abspath(chosen.credentials))
    return daemon.run_mount(
        plan.Plan(source, unc, prefix, mountpoint, chosen, login),
        foreground=arguments.foreground,
        debug=arguments.debug,
        verbose=arguments.verbose,
    )


def parse_arguments(argv: Sequence[str]) -> Arguments | None:
    """Take the command line apart; None = it asked for help or the version, which is shown.

    Raises `MountFailure` where it makes no sense.
    """
    try:
        given, positional = getopt.gnu_getopt(list(argv), "o:t:fdvVhns", ["help", "version"])
    except getopt.GetoptError as error:
        raise MountFailure(f"{error.msg}; see smbmount --help", ExitCode.USAGE) from None
    flags = tuple(flag for flag, _ in given if flag in ("-f", "-d", "-v"))
    texts = tuple(value for flag, value in given if flag == "-o")
    names = {flag for flag, _ in given}
    if names & {"-h", "--help"}:
        sys.stdout.write(_HELP + "\n".join(options.help_lines()) + "\n")
        return None
    if names & {"-V", "--version"}:
        sys.stdout.write(version_line() + "\n")
        return None
    if len(positional) != 2:
        problem = "too many arguments" if len(positional) > 2 else "a share and a mount point are needed"
        raise MountFailure(f"{problem}; usage: {USAGE}", ExitCode.USAGE)
    source, mountpoint = positional
    return Arguments(source, mountpoint, (*texts, "sloppy") if "-s" in names else texts, flags)


def version_line() -> str:
    """The versions of everything that a bug report needs."""
    try:
        pyfuse3 = importlib.metadata.version("pyfuse3")
    except importlib.metadata.PackageNotFoundError:
        pyfuse3 = "missing"
    return (
        f"smbmount {smbmount.__version__} (Python {platform.python_version()}, pyfuse3 {pyfuse3}, "
        f"libfuse {_libfuse_version()}, Linux {platform.release()})"
    )


def _libfuse_version() -> str:
    try:
        library = ctypes.CDLL("libfuse3.so.3")
    except OSError:
        return "missing"
    library.fuse_pkgversion.restype = ctypes.c_char_p
    return str(library.fuse_pkgversion(), "ascii")


def _prompt() -> Callable[[str], str] | None:
    return getpass.getpass if sys.stdin is not None and sys.stdin.isatty() else None


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())

"""Getting passwords out of sight: they leave argv and the environment by starting the program anew.

/proc/self/cmdline and /proc/self/environ show what a process was started with, whatever it does later.
So where a password stands there, it goes into a pipe, and the same program is executed without it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from smbmount.credentials import HANDED_OVER, HANDED_OVER_OF_USER
from smbmount.failures import CredentialsError
from smbmount.optionparsers import is_utf8
from smbmount.options import PASSWORD_KEYS, USERNAME_KEYS, MountOptions, split_options
from smbmount.secret import Secret

LONGEST_PASSWORD: Final = 4096
"""Fits into a pipe at once, so nobody has to read while it is written."""

_PR_SET_DUMPABLE: Final = 4


@dataclass(frozen=True, slots=True)
class Restart:
    """What the program is executed with instead: no password in it, and where the passwords go."""

    option_texts: tuple[str, ...]
    environ: dict[str, str]
    handed: dict[str, Secret]
    """The variable that will hold the number of a file descriptor, and what is read there."""


def plan_restart(
    option_texts: Sequence[str], options: MountOptions, environ: Mapping[str, str]
) -> Restart | None:
    """Decide whether a password is in sight; None = none is."""
    user, percent, user_password = environ.get("USER", "").partition("%")
    if options.password is None and "PASSWD" not in environ and not percent:
        return None
    clean = dict(environ)
    handed: dict[str, Secret] = {}
    if options.password is not None:
        handed[HANDED_OVER] = options.password
    if percent:
        clean["USER"] = user
        handed[HANDED_OVER_OF_USER] = Secret(user_password)
    if "PASSWD" in clean:
        handed["PASSWD_FD"] = Secret(clean.pop("PASSWD"))
    return Restart(tuple(map(_without_password, option_texts)), clean, handed)


def _without_password(text: str) -> str:
    kept = []
    for option in split_options(text):
        if option.key in USERNAME_KEYS:
            kept.append(option.raw.partition("%")[0])
        elif option.key not in PASSWORD_KEYS:
            kept.append(option.raw)
    return ",".join(kept)


def restart(plan: Restart, arguments: Sequence[str]) -> NoReturn:
    """Execute this program anew with `arguments`, behind the interpreter and its own arguments."""
    environ = dict(plan.environ)
    for variable, secret in plan.handed.items():
        environ[variable] = str(_pipe_holding(secret))
    interpreter = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    os.execve(sys.executable, [*interpreter, *arguments], environ)


def _pipe_holding(secret: Secret) -> int:
    """Return the inheritable reading end of a pipe that holds the secret's UTF-8, then ends."""
    if not is_utf8(secret.reveal()):
        raise CredentialsError("the password is not UTF-8: write it in UTF-8")
    content = secret.reveal().encode()
    if len(content) > LONGEST_PASSWORD:
        raise CredentialsError(f"the password is longer than {LONGEST_PASSWORD} bytes")
    reader, writer = os.pipe()
    try:
        os.write(writer, content)
    finally:
        os.close(writer)
    os.set_inheritable(reader, True)
    return reader


def forbid_core_dumps() -> None:
    """Nobody but root reads this process's memory, and no crash writes it to a disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)

"""How a mount fails: one sentence for the user, and an exit code of mount(8)."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """The exit codes of mount(8)."""

    SUCCESS = 0
    USAGE = 1
    SYSTEM = 2
    INTERNAL = 4
    INTERRUPTED = 8
    MOUNT_FAILED = 32


class MountFailure(Exception):
    """The mount cannot be made; `str()` is one line that says why and what to do next."""

    def __init__(self, message: str, code: ExitCode = ExitCode.MOUNT_FAILED) -> None:
        super().__init__(message)
        self.code = code


class OptionError(MountFailure):
    """A mount option is unknown, malformed, or asks for something that is not there."""

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message, code)


class CredentialsError(MountFailure):
    """The user name or the password cannot be had."""

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message, code)

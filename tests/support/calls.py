"""What a call does, as a value that a test can compare."""

from __future__ import annotations

from collections.abc import Callable


def error_of(call: Callable[[], object]) -> int:
    """The errno that a call fails with; 0 if it works."""
    try:
        call()
    except OSError as error:
        return error.errno or -1
    return 0

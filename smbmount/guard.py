"""The wall around every call from the kernel: one deadline, and no exception but `FUSEError` gets out.

pyfuse3 ends the mount on any other exception.
"""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import pyfuse3
import trio

from engine import PathNotCovered, SmbError
from smbmount.vfs.errors import errno_of
from smbmount.vfs.signals import postpone_deadline

log = logging.getLogger(__name__)

_MOST_TOLD = 100
_told: set[str] = set()
"""The places behind links that the log has told of."""

P = ParamSpec("P")
R = TypeVar("R")


class HasTimeout(Protocol):
    """What owns the handlers: it knows how long a call may make no progress, in seconds."""

    @property
    def timeout(self) -> float:
        """Seconds; infinite for a mount that waits for ever."""


Owner = TypeVar("Owner", bound=HasTimeout)


def guarded(
    handler: Callable[Concatenate[Owner, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Owner, P], Coroutine[Any, Any, R]]:
    """Wrap a handler: refusals become their errno; a passed deadline and every mistake of ours EIO.

    Mistakes are logged with their traceback. Cancellation from outside passes.
    """

    @functools.wraps(handler)
    async def wrapper(owner: Owner, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await _within_deadline(owner, handler(owner, *args, **kwargs))
        except pyfuse3.FUSEError:
            raise
        except (SmbError, OSError) as exc:
            if isinstance(exc, PathNotCovered):
                _tell_of_link(exc.place)
            log.debug("%s: %s", handler.__name__, exc)
            raise pyfuse3.FUSEError(errno_of(exc)) from None
        except trio.TooSlowError:
            log.warning("%s: no answer for %.0f seconds", handler.__name__, owner.timeout)
            raise pyfuse3.FUSEError(errno.EIO) from None
        except Exception:
            log.exception("%s failed by a mistake of this program", handler.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from None

    return wrapper


def _tell_of_link(place: str) -> None:
    """Say once what to do about a folder that is on another server."""
    if len(_told) < _MOST_TOLD and not any(f"{place}/".startswith(f"{told}/") for told in _told):
        _told.add(place)
        log.warning("%s is on another server (DFS): mount it by itself, or leave out nodfs", place)


async def _within_deadline(owner: HasTimeout, call: Coroutine[Any, Any, R]) -> R:
    # By hand what `trio.fail_after` does: its generator costs more than all else here, at every call.
    with trio.CancelScope(deadline=trio.current_time() + owner.timeout) as scope:

        def postpone() -> None:
            scope.deadline = trio.current_time() + owner.timeout

        token = postpone_deadline.set(postpone)
        try:
            return await call
        finally:
            postpone_deadline.reset(token)
    raise trio.TooSlowError

"""A hard deadline for each test, also for one that is stuck inside a system call.

A signal handler of Python's runs only after the call returned, and a call into a FUSE mount whose
daemon hangs never does. So a thread kills the daemons first and sends the signal afterwards.
"""

from __future__ import annotations

import faulthandler
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from tests.support.mounting import abort_all

DEFAULT_SECONDS: Final = 120.0
_LAST_RESORT_SECONDS: Final = 30.0
"""Added to the deadline: when even that did not end the test, the whole run dies with all tracebacks."""


class DeadlineExceeded(BaseException):
    """Not an `Exception`: no `except Exception` of the code under test may swallow it."""


@contextmanager
def hard_deadline(seconds: float, what: str, report_fd: int) -> Iterator[None]:
    """Raise `DeadlineExceeded` in the main thread when the block is not left within `seconds`.

    The tracebacks of all threads go to the file descriptor `report_fd` then.
    """

    def expire() -> None:
        faulthandler.dump_traceback(file=report_fd)
        abort_all()
        signal.pthread_kill(main_thread, signal.SIGALRM)

    def on_alarm(number: int, frame: FrameType | None) -> None:
        raise DeadlineExceeded(f"{what} did not end within {seconds:g} s")

    main_thread = threading.get_ident()
    before = signal.signal(signal.SIGALRM, on_alarm)
    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    faulthandler.dump_traceback_later(seconds + _LAST_RESORT_SECONDS, exit=True, file=report_fd)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGALRM, before)

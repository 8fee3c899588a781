"""How much of what was written is in flight at a time: as much as the server answers without queueing.

Constantly many WRITEs make the threads of a near server fight for one file; constantly few leave a long link
empty. The time of an answer tells which: it stays what it is as long as the link has room, and grows with the
number in flight beyond that.
"""

from __future__ import annotations

from typing import Final

MIN_WINDOW: Final = 2 << 20
"""Bytes: one WRITE on its way while the server works on another."""
FIRST_WINDOW: Final = 4 << 20
"""Bytes before anything is known: short files are not to wait for the window to grow."""
MAX_WINDOW: Final = 32 << 20
"""Bytes: fills 10 Gbit/s at 25 ms."""
_STEP: Final = 1 << 20
_NEAR: Final = 1.5
"""Times the undisturbed answer's: up to here the link has room."""
_FAR: Final = 2.0
"""Times the undisturbed answer's: from here on requests only wait for each other."""
_PATIENCE: Final = 16
"""Windows' worth of answers between finding one too large and trying a larger one again: each try costs."""


class WriteWindow:
    """The bytes of one file that may be in flight; one for all files of a mount, they share the link.

    Answers are judged by the mean over a window's worth of them, so that one late answer is no reason.
    """

    def __init__(self) -> None:
        self.size = FIRST_WINDOW
        """Bytes."""
        self._undisturbed = float("inf")
        self._doubling = True
        self._limited = False
        self._was_least = False
        self._patience = 0
        self._not_before = 0.0
        self._seconds = 0.0
        self._answers = 0
        self._bytes = 0

    def limits(self) -> None:
        """Data waits because the window is full; one that nobody fills does not grow."""
        self._limited = True

    def answered(self, length: int, sent_at: float, now: float) -> None:
        """A WRITE of the usual size was answered; times in seconds of one clock."""
        if sent_at < self._not_before:
            return
        if self._undisturbed == float("inf"):
            # The first of all had no other before it.
            self._undisturbed = now - sent_at
        self._seconds += now - sent_at
        self._answers += 1
        self._bytes += length
        if self._bytes < self.size:
            return
        mean = self._seconds / self._answers
        self._seconds, self._answers, self._bytes = 0.0, 0, 0
        self._judge(mean, now)
        self._limited = False

    def _judge(self, mean: float, now: float) -> None:
        # With the least in flight it takes what it takes, also where that is more than it used to be; the
        # first answers after a larger window still waited behind what that had sent.
        if mean < self._undisturbed or self._was_least:
            self._undisturbed = mean
        self._was_least = self.size == MIN_WINDOW
        if mean > _FAR * self._undisturbed:
            self._doubling = False
            self._resize(self.size * 3 // 4, now)
            self._patience = _PATIENCE
        elif mean > _NEAR * self._undisturbed:
            self._doubling = False
        elif self._limited and self._doubling:
            self.size = min(self.size * 2, MAX_WINDOW)
        elif self._patience:
            self._patience -= 1
        elif self._limited:
            self._resize(self.size + _STEP, now)

    def _resize(self, size: int, now: float) -> None:
        self.size = max(MIN_WINDOW, min(size, MAX_WINDOW))
        self._was_least = self._was_least and self.size == MIN_WINDOW
        # What was sent before tells of the window that was.
        self._not_before = now

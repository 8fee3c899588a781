"""A faulty folder as its owner has it."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from smbmount.mounttable import detach, topmost_mount
from tests.support.faulty_folder.troubles import Calls, Trouble
from tests.support.helper import HelperProcess

_WAIT_DEADLINE: Final = 30.0
_POLL_SECONDS: Final = 0.005


class FaultyFolder:
    """`path` is the folder that fails on command, `backing` the one behind it; a context manager."""

    def __init__(self) -> None:
        self._base = Path(tempfile.mkdtemp(prefix="smbmount-faulty-"))
        self._base.chmod(0o755)
        self.backing = self._base / "backing"
        self.path = self._base / "folder"
        self._helper = HelperProcess("the faulty folder", "tests.support.faulty_folder", str(self._base))

    def __enter__(self) -> Self:
        try:
            self.backing.mkdir()
            self.backing.chmod(0o777)
            self.path.mkdir()
            self._helper.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._helper.stop()
        self._remove()

    @property
    def pid(self) -> int:
        """The process id of the file system."""
        return self._helper.pid

    def tell(self, trouble: Trouble) -> Calls:
        """Have this trouble from now on; the counters at that moment."""
        calls: Calls = self._helper.ask(trouble)
        return calls

    def calls(self) -> Calls:
        """What was called since the start."""
        calls: Calls = self._helper.ask(None)
        return calls

    def wait_for(
        self, condition: Callable[[Calls], bool], what: str, seconds: float = _WAIT_DEADLINE
    ) -> Calls:
        """Wait until the counters are such; an `AssertionError` with `what` when they do not become so."""
        deadline = time.monotonic() + seconds
        while not condition(calls := self.calls()):
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}; {calls}"
            time.sleep(_POLL_SECONDS)
        return calls

    def _remove(self) -> None:
        while topmost_mount(str(self.path)) is not None:
            detach(str(self.path))
        shutil.rmtree(self._base, ignore_errors=True)

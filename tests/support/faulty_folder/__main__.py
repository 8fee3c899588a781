"""`python -m tests.support.faulty_folder BASE --control FD`: serve BASE/folder until the owner ends."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
from pathlib import Path

import pyfuse3
import trio

from tests.support.faulty_folder.passthrough import PassThrough
from tests.support.faulty_folder.troubles import Troubles
from tests.support.helper import obey


async def _serve(troubles: Troubles, control: int) -> None:
    async with trio.open_nursery() as nursery:

        async def obey_until_the_end() -> None:
            await obey(control, None, troubles.tell)
            nursery.cancel_scope.cancel()

        async def end_at_a_signal() -> None:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                await anext(signals)
                nursery.cancel_scope.cancel()

        nursery.start_soon(obey_until_the_end)
        nursery.start_soon(end_at_a_signal)
        await pyfuse3.main()
        nursery.cancel_scope.cancel()


def main() -> None:
    """Mount, serve, unmount, and remove BASE, which nobody else may have time for."""
    parser = argparse.ArgumentParser("python -m tests.support.faulty_folder")
    parser.add_argument("base", type=Path)
    parser.add_argument("--control", type=int, required=True, metavar="FD")
    arguments = parser.parse_args()
    # Two things tell of the owner's end, and the second must not interrupt what the first began.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    # Modes are the callers' business, whose umask the kernel has applied.
    os.umask(0)
    troubles = Troubles()
    operations = PassThrough(arguments.base / "backing", troubles)
    options = {"fsname=faulty", "default_permissions", *(["allow_other"] if os.geteuid() == 0 else [])}
    pyfuse3.init(operations, str(arguments.base / "folder"), options)
    try:
        trio.run(_serve, troubles, arguments.control)
    finally:
        pyfuse3.close(unmount=True)
        shutil.rmtree(arguments.base, ignore_errors=True)


if __name__ == "__main__":
    main()

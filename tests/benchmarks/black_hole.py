"""What programs see of a server that falls silent, and how soon they go on when it is there again.

    python -m tests.benchmarks.black_hole [--rounds N]

Behind a proxy that swallows everything: seconds of `df`, of `ls` with a timeout of 5 s, and from the line's
return to the first file read.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.support.calls import error_of
from tests.support.mounting import Mount
from tests.support.proxy import Drop, ProxyProcess, Resume
from tests.support.samba import SambaServer

_TIMEOUT: Final = 5
_LATEST_RETURN: Final = 60.0


def main() -> None:
    """Play the rounds and print what each took."""
    parser = argparse.ArgumentParser(
        prog="tests.benchmarks.black_hole", description=__doc__.split("\n", 1)[0]
    )
    parser.add_argument("--rounds", type=int, default=4)
    with SambaServer() as server:
        for _ in range(parser.parse_args().rounds):
            with tempfile.TemporaryDirectory() as folder:
                df, ls, back = measure(server, Path(folder))
            print(f"df {df:.2f} s, ls {ls:.2f} s (timeout {_TIMEOUT} s), back after {back:.2f} s", flush=True)


def measure(server: SambaServer, folder: Path) -> tuple[float, float, float]:
    """One round with a mount of its own."""
    with ProxyProcess((server.address, server.port)) as proxy:
        options = [f"port={proxy.port}", f"timeout={_TIMEOUT}", "actimeo=0"]
        with Mount(server, folder, options=options) as mount:
            mount.expect_log("is (lost|back)|no answer for")
            file = mount.path / "file"
            file.write_text("content")
            subprocess.run(["df", folder], check=True, stdout=subprocess.DEVNULL)
            proxy.tell(Drop())
            df = _seconds(lambda: _run("df", folder))
            ls = _seconds(lambda: _run("ls", folder))
            proxy.tell(Resume())
            return df, ls, _seconds(lambda: _until_read(file))


def _run(program: str, folder: Path) -> None:
    subprocess.run([program, folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _until_read(file: Path) -> None:
    deadline = time.monotonic() + _LATEST_RETURN
    while error_of(file.read_text):
        assert time.monotonic() < deadline, "the mount does not come back"


def _seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


if __name__ == "__main__":
    main()

"""`python -m tests.support.proxy`: serve until SIGTERM or SIGINT, or until the owner of `--control` ends."""

from __future__ import annotations

import argparse
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

import trio

import tests.support.proxy
from tests.support.proxy.faults import DEFAULT_QUEUE, Link
from tests.support.proxy.server import LOOPBACK, Proxy


async def _serve(proxy: Proxy, control: Connection[Any, Any] | None) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(proxy.serve)
            if control is None:
                sys.stdout.write(f"listening on port {proxy.port}\n")
                sys.stdout.flush()
            else:
                nursery.start_soon(_obey, proxy, control, nursery.cancel_scope)
            await anext(signals)
            nursery.cancel_scope.cancel()


async def _obey(proxy: Proxy, control: Connection[Any, Any], everything: trio.CancelScope) -> None:
    """Say the port, then answer each message, a fault or None, with the counters. Messages are small."""
    try:
        control.send(proxy.port)
        while True:
            await trio.lowlevel.wait_readable(control.fileno())
            question = control.recv()
            if question is not None:
                proxy.tell(question)
            control.send(proxy.counts())
    except (EOFError, ConnectionError):
        everything.cancel()


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host or LOOPBACK, int(port)


def main() -> None:
    """Serve until told to end."""
    summary = (tests.support.proxy.__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser("python -m tests.support.proxy", description=summary)
    parser.add_argument("--to", type=_host_and_port, required=True, metavar="HOST:PORT", help="the server")
    parser.add_argument("--listen", type=_host_and_port, default=(LOOPBACK, 0), metavar="HOST:PORT")
    parser.add_argument("--delay", type=float, default=0.0, metavar="MS", help="there and back")
    parser.add_argument("--rate", type=float, metavar="BYTES", help="per second, in each direction")
    parser.add_argument("--queue", type=int, default=DEFAULT_QUEUE, metavar="BYTES", help="most under way")
    parser.add_argument("--control", type=int, metavar="FD", help="a socket to be told faults by")
    arguments = parser.parse_args()
    proxy = Proxy(
        arguments.to, Link(arguments.delay / 1000, arguments.rate, arguments.queue), arguments.listen
    )
    control = None if arguments.control is None else Connection(arguments.control)
    trio.run(_serve, proxy, control)


if __name__ == "__main__":
    main()

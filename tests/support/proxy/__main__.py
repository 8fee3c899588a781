"""`python -m tests.support.proxy`: serve until SIGTERM or SIGINT, or until the owner of `--control` ends."""

from __future__ import annotations

import argparse
import signal
import sys

import trio

import tests.support.proxy
from tests.support.helper import obey
from tests.support.proxy.faults import DEFAULT_QUEUE, Counts, Fault, Link
from tests.support.proxy.server import LOOPBACK, Proxy


async def _serve(proxy: Proxy, control: int | None) -> None:
    async def obey_until_the_end(everything: trio.CancelScope) -> None:
        assert control is not None
        await obey(control, proxy.port, answer)
        everything.cancel()

    def answer(question: Fault | None) -> Counts:
        return proxy.counts() if question is None else proxy.tell(question)

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(proxy.serve)
            if control is None:
                sys.stdout.write(f"listening on port {proxy.port}\n")
                sys.stdout.flush()
            else:
                nursery.start_soon(obey_until_the_end, nursery.cancel_scope)
            await anext(signals)
            nursery.cancel_scope.cancel()


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
    trio.run(_serve, proxy, arguments.control)


if __name__ == "__main__":
    main()

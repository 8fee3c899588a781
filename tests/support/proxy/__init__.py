"""A proxy between a client and a server on one machine: a distance, and a line that fails on command.

    python -m tests.support.proxy --to HOST:PORT [--listen HOST:PORT] [--delay MS] [--rate BYTES]

What arrives is sent on half a round trip later, in order and unchanged. The delay is latency and no limit
to throughput: data on its way is queued with the time it is due. `--rate` limits the bytes per second of
each direction, the way a slow line does. The end of one direction (half-close) and resets pass on too.

While it runs it can be told faults, which are values (`faults`), and asked what passed:

    proxy.tell(Stall())
    proxy.wait_for(lambda counts: counts.to_client.arrived > before, "the reply")
    proxy.tell(Reset())

Benchmarks and tests of mounts run it as a process of its own (`ProxyProcess`), tests with an event loop
inside that (`Proxy`).
"""

from tests.support.proxy.faults import (
    BOTH,
    DEFAULT_QUEUE,
    Counts,
    Cut,
    Door,
    Drop,
    Fault,
    HalfClose,
    Heal,
    Link,
    Loss,
    Merge,
    NewConnections,
    Place,
    Relink,
    Reset,
    Resume,
    Split,
    Stall,
    Target,
    Way,
    WayCounts,
    Whole,
)
from tests.support.proxy.process import ProxyProcess
from tests.support.proxy.server import Proxy

__all__ = [
    "BOTH",
    "DEFAULT_QUEUE",
    "Counts",
    "Cut",
    "Door",
    "Drop",
    "Fault",
    "HalfClose",
    "Heal",
    "Link",
    "Loss",
    "Merge",
    "NewConnections",
    "Place",
    "Proxy",
    "ProxyProcess",
    "Relink",
    "Reset",
    "Resume",
    "Split",
    "Stall",
    "Target",
    "Way",
    "WayCounts",
    "Whole",
]

"""The connection ends, or the server falls silent: every waiter is told, nothing hangs."""

from __future__ import annotations

import errno
import logging
import socket

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import engine
from engine.client.transport import Transport
from engine.wire.constants import Command
from tests.fakes.server import FakeServer, running
from tests.fakes.server_behaviours import (
    ClosesAfter,
    CutsFrame,
    KeepsWaiting,
    NeverAnswers,
    StopsReading,
    Trickles,
)
from tests.fakes.server_leases import GrantsLeases
from tests.unit.client.support import ACCOUNT, DEADLINE, connected

_QUIET: float = 0.01
"""Seconds of real quiet before the mock clock jumps; what is in the kernel has arrived by then."""


async def collect(share: engine.Share, outcomes: list[BaseException]) -> None:
    try:
        await share.stat("")
    except engine.SmbError as error:
        outcomes.append(error)


async def write(file: engine.File, offset: int, outcomes: list[BaseException]) -> None:
    try:
        await file.write_at(offset, bytes(8 << 20))
    except engine.SmbError as error:
        outcomes.append(error)


def test_a_reset_connection_fails_every_waiter_and_every_later_call() -> None:
    async def main() -> None:
        server = NeverAnswers(Command.CREATE, total_credits=20)
        outcomes: list[BaseException] = []
        async with connected(server) as share:
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(collect, share, outcomes)
                nursery.start_soon(share.wait_lost)
                await server.until(lambda: len(server.held) >= 5)
                await wait_all_tasks_blocked()
                server.hang_up()
            assert len(outcomes) == 20
            assert {type(error) for error in outcomes} == {engine.TransportError}
            assert share.is_lost
            with pytest.raises(engine.TransportError) as caught:
                await share.echo()
            assert caught.value.errno == errno.EHOSTDOWN
            statistics = share.statistics()
            assert statistics.in_flight == 0

    trio.run(main)


def test_a_call_may_be_the_first_to_find_out() -> None:
    async def main() -> None:
        server = FakeServer()
        async with connected(server) as share:
            server.hang_up()
            with pytest.raises(engine.TransportError):
                await share.echo()
            assert share.is_lost

    trio.run(main)


def test_a_cancel_may_be_the_first_to_find_out() -> None:
    async def main() -> None:
        server = NeverAnswers(Command.CREATE)
        async with connected(server) as share:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(share.stat, "")
                    await server.until(lambda: len(server.held) == 1)
                    server.hang_up()
                    scope.cancel()
            await share.wait_lost()

    trio.run(main)


def test_whoever_sends_is_not_interrupted_by_those_that_hear_of_the_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(self: Transport, buffers: object) -> None:
        raise engine.TransportError("reset by peer")

    async def main() -> None:
        server = GrantsLeases()
        broken: list[engine.Lease] = []
        async with connected(server) as share:
            leases = [share.lease(broken.append) for _ in range(3)]
            create = engine.Disposition.CREATE
            files = [await share.open(lease.key.hex(), disposition=create, lease=lease) for lease in leases]
            monkeypatch.setattr(Transport, "send", fail)
            for file in files[:2]:
                file.close_later()
            assert not broken
            await share.wait_lost()
            assert broken == leases[2:]

    trio.run(main)


def test_a_loss_while_data_waits_to_be_sent() -> None:
    async def main() -> None:
        server = StopsReading(armed=False, max_size=8 << 20, total_credits=600)
        outcomes: list[BaseException] = []
        async with connected(server) as share, trio.open_nursery() as nursery:
            file = await share.open("a", access=engine.Access.WRITE, disposition=engine.Disposition.CREATE)
            server.armed = True
            nursery.start_soon(collect, share, outcomes)
            for number in range(4):
                nursery.start_soon(write, file, number << 23, outcomes)
            await wait_all_tasks_blocked()
            server.hang_up()
        assert [type(error) for error in outcomes] == [engine.TransportError] * 5

    trio.run(main)


def test_a_loss_while_a_handle_is_closed_behind_our_back() -> None:
    async def main() -> None:
        server = NeverAnswers(Command.CLOSE)
        server.tree.add_file("a")
        async with connected(server) as share:
            file = await share.open("a")
            file.close_later()
            file.close_later()
            await file.close()
            await server.until(lambda: len(server.held) == 1)
            server.hang_up()
            await share.wait_lost()
            await wait_all_tasks_blocked()
            assert server.received.count(Command.CLOSE) == 1

    trio.run(main)


def test_a_loss_while_a_clean_up_waits_for_a_credit(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = NeverAnswers(Command.ECHO, total_credits=1)
        server.tree.add_file("a")
        async with connected(server) as share, trio.open_nursery() as nursery:
            file = await share.open("a")

            async def echo() -> None:
                with pytest.raises(engine.TransportError):
                    await share.echo()

            nursery.start_soon(echo)
            await server.until(lambda: len(server.held) == 1)
            file.close_later()
            await wait_all_tasks_blocked()
            server.hang_up()
            await share.wait_lost()
            await wait_all_tasks_blocked()

    with caplog.at_level(logging.DEBUG, "engine"):
        trio.run(main)
    assert "cleaning up with CLOSE failed" in caplog.text


def test_silence_while_data_waits_to_be_sent() -> None:
    async def main() -> None:
        server = StopsReading(armed=False, max_size=8 << 20, total_credits=600)
        outcomes: list[BaseException] = []
        config = engine.ConnectConfig(echo_interval=10)
        async with running(server), engine.connect(server.unc, ACCOUNT, config) as share:
            file = await share.open("a", access=engine.Access.WRITE, disposition=engine.Disposition.CREATE)
            server.armed = True
            async with trio.open_nursery() as nursery:
                nursery.start_soon(collect, share, outcomes)
                for number in range(4):
                    nursery.start_soon(write, file, number << 23, outcomes)
            assert [str(error) for error in outcomes] == ["the server has been silent for 20 s"] * 5

    trio.run(main, clock=MockClock(autojump_threshold=_QUIET))


def test_errors_after_the_loss_do_not_share_a_traceback() -> None:
    async def main() -> None:
        server = FakeServer()
        async with connected(server) as share:
            server.hang_up()
            await share.wait_lost()
            errors = []
            for _ in range(2):
                with pytest.raises(engine.TransportError) as caught:
                    await share.echo()
                errors.append(caught.value)
            assert errors[0] is not errors[1]
            assert errors[0].__cause__ is errors[1].__cause__

    trio.run(main)


async def write_and_delete(server: FakeServer) -> None:
    """Ten frames go each way."""
    async with engine.connect(server.unc, ACCOUNT) as share:
        await share.stat("")
        async with await share.open(
            "a", access=engine.Access.WRITE, disposition=engine.Disposition.CREATE
        ) as file:
            await file.write_at(0, bytes(100))
        await share.unlink("a")
        await share.echo()


@pytest.mark.parametrize("count", range(10))
def test_the_connection_may_end_instead_of_any_reply(count: int) -> None:
    async def main() -> None:
        server = ClosesAfter(count)
        with trio.fail_after(DEADLINE):
            async with running(server):
                with pytest.raises(engine.TransportError, match="closed the connection") as caught:
                    await write_and_delete(server)
                assert caught.value.errno == errno.EHOSTDOWN

    trio.run(main)


def test_the_connection_may_end_in_the_middle_of_a_frame() -> None:
    async def main() -> None:
        server = CutsFrame(armed=False)
        async with connected(server) as share:
            server.armed = True
            with pytest.raises(engine.TransportError):
                await share.stat("")

    trio.run(main)


def test_a_pipelined_transfer_fails_as_one() -> None:
    async def main() -> None:
        server = NeverAnswers(Command.WRITE)
        async with connected(server) as share, trio.open_nursery() as nursery:
            file = await share.open("a", access=engine.Access.WRITE, disposition=engine.Disposition.CREATE)

            async def write() -> None:
                with pytest.raises(engine.TransportError):
                    await file.write_at(0, bytes(5 << 20))

            nursery.start_soon(write)
            await server.until(lambda: len(server.held) >= 2)
            server.hang_up()

    trio.run(main)


def test_nobody_listens_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        async def main() -> None:
            with pytest.raises(engine.TransportError, match="nothing listens on TCP port") as caught:
                async with engine.connect(f"//127.0.0.1:{port}/data", ACCOUNT):
                    pytest.fail("connected")
            assert caught.value.errno == errno.ECONNREFUSED

        trio.run(main)


def test_a_server_that_takes_the_connection_and_says_nothing() -> None:
    async def main() -> None:
        server = NeverAnswers()
        async with running(server):
            with pytest.raises(engine.TransportError, match=r"did not answer within 60 s"):
                async with engine.connect(server.unc, ACCOUNT):
                    pytest.fail("connected")
        assert trio.current_time() - start == pytest.approx(60, abs=1)

    clock = MockClock(autojump_threshold=_QUIET)
    start = clock.current_time()
    trio.run(main, clock=clock)


def test_a_black_hole_is_found_by_echo_within_two_intervals() -> None:
    async def main() -> None:
        server = NeverAnswers(armed=False)
        async with running(server):
            async with engine.connect(server.unc, ACCOUNT, engine.ConnectConfig(echo_interval=10)) as share:
                server.armed = True
                began = trio.current_time()
                with pytest.raises(engine.TransportError, match="silent for 20 s"):
                    await share.stat("")
                assert trio.current_time() - began == pytest.approx(20, abs=1)
                assert server.received.count(Command.ECHO) == 1
            assert trio.current_time() - began == pytest.approx(20, abs=1), "the goodbye does not wait"

    trio.run(main, clock=MockClock(autojump_threshold=_QUIET))


def test_a_quiet_server_that_answers_echo_is_kept() -> None:
    async def main() -> None:
        server = KeepsWaiting(Command.CREATE)
        async with (
            running(server),
            engine.connect(server.unc, ACCOUNT, engine.ConnectConfig(echo_interval=10)) as share,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(share.stat, "")
            await trio.sleep(105)
            assert not share.is_lost
            assert server.received.count(Command.ECHO) == 10
            await server.release()

    trio.run(main, clock=MockClock(autojump_threshold=_QUIET))


def test_a_loss_during_echo_is_left_to_whoever_uses_the_share() -> None:
    async def main() -> None:
        server = NeverAnswers(Command.ECHO)
        async with (
            running(server),
            engine.connect(server.unc, ACCOUNT, engine.ConnectConfig(echo_interval=10)) as share,
        ):
            await server.until(lambda: len(server.held) == 1)
            server.hang_up()
            await share.wait_lost()
            await trio.sleep(30)
            with pytest.raises(engine.TransportError):
                await share.echo()

    trio.run(main, clock=MockClock(autojump_threshold=_QUIET))


def test_nothing_times_out_while_bytes_flow() -> None:
    async def main() -> None:
        server = Trickles(20, seconds=4, armed=False)
        async with (
            running(server),
            engine.connect(server.unc, ACCOUNT, engine.ConnectConfig(echo_interval=10)) as share,
        ):
            server.armed = True
            began = trio.current_time()
            assert (await share.stat("")).is_directory
            assert trio.current_time() - began > 40
            server.armed = False

    trio.run(main, clock=MockClock(autojump_threshold=_QUIET))


def test_a_lost_connection_can_still_be_described() -> None:
    async def main() -> None:
        server = FakeServer()
        async with connected(server) as share:
            address = share.description.address
            server.hang_up()
            await share.wait_lost()
            assert share.description.address == address

    trio.run(main)

"""Sessions that expire or are forgotten, and servers that move: a share comes through."""

from __future__ import annotations

import errno

import pytest
import trio

import engine
from engine import ntstatus
from engine.client.condition import History
from engine.client.config import ConnectConfig
from engine.errors import AuthError, TransportError
from engine.wire.constants import Command
from tests.fakes.server import FakeServer, running
from tests.fakes.server_durable import Grant, KeepsOpens
from tests.fakes.server_peer import Peer, Reply
from tests.support.logcheck import ExpectedWarnings
from tests.support.names import Names
from tests.unit.client.support import ACCOUNT, DEADLINE, connected, settled

RECONNECTING = ConnectConfig(reconnect=True)


def test_fault_10_an_expired_session_is_authenticated_anew_and_the_request_repeated_once() -> None:
    async def main() -> None:
        server = FakeServer()
        async with connected(server, RECONNECTING) as share:
            file = await share.open("file", access=engine.Access.WRITE, disposition=engine.Disposition.CREATE)
            [peer] = server.peers
            assert peer.session is not None
            log_ons = server.received.count(Command.SESSION_SETUP)
            peer.session.has_expired = True
            async with trio.open_nursery() as nursery:
                for offset in range(4):
                    nursery.start_soon(file.write_at, offset, b"x")
                nursery.start_soon(share.stat, "file")
            assert server.received.count(Command.SESSION_SETUP) == 2 * log_ons
            assert len(server.peers) == 1
            assert not share.is_lost
            await file.close()
            await settled(server, share)

    trio.run(main)


def test_fault_10_an_account_that_has_expired_too_is_an_error_and_not_asked_at_once_again(
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings.require("refuses us since the connection was lost")

    async def main() -> None:
        server = FakeServer()
        async with connected(server, RECONNECTING) as share:
            [peer] = server.peers
            assert peer.session is not None
            peer.session.has_expired = True
            server.refuses_accounts = True
            for _ in range(5):
                with pytest.raises(AuthError) as caught:
                    await share.stat("")
                assert caught.value.errno == errno.EACCES
            # The renewal on the session, and one more on a connection of its own.
            assert server.received.count(Command.SESSION_SETUP) <= 6

    trio.run(main)


@pytest.mark.parametrize(
    "status", [ntstatus.STATUS_USER_SESSION_DELETED, ntstatus.STATUS_NETWORK_NAME_DELETED], ids=hex
)
def test_fault_11_a_forgotten_session_or_share_is_set_up_anew(status: int) -> None:
    async def main() -> None:
        server = FakeServer()
        async with connected(server, RECONNECTING) as share:
            file = await share.open("file", access=engine.Access.WRITE, disposition=engine.Disposition.CREATE)
            server.refusals[Command.WRITE] = status
            async with trio.open_nursery() as nursery:
                nursery.start_soon(file.write_at, 0, b"content")
                await server.until(lambda: len(server.peers) == 2)
                server.refusals.clear()
            assert bytes(server.tree.node("file").data) == b"content"
            await file.close()

    trio.run(main)


@pytest.mark.parametrize(
    ("first", "second"), [("127.0.0.1", "127.0.0.2"), ("127.0.0.1", "::1"), ("::1", "127.0.0.1")]
)
def test_fault_23_a_name_that_leads_elsewhere_is_resolved_anew(first: str, second: str) -> None:
    async def main() -> None:
        server, names = FakeServer(), {"somewhere": first}
        server.host = first
        trio.socket.set_custom_hostname_resolver(Names(names))
        async with running(server), trio.open_nursery() as nursery:
            unc = f"//somewhere:{server.port}/data"
            with trio.fail_after(DEADLINE):
                async with engine.connect(unc, ACCOUNT, RECONNECTING) as share:
                    assert share.description.address == first
                    elsewhere = await trio.open_tcp_listeners(server.port, host=second)
                    await nursery.start(trio.serve_listeners, server.handle, elsewhere)
                    names["somewhere"] = second
                    server.hang_up()
                    await share.wait_lost()
                    await share.stat("")
                    assert share.description.address == second
            nursery.cancel_scope.cancel()

    trio.run(main)


class RenamesAndHangsUp(KeepsOpens):
    """Renames once without saying so: the connection ends instead."""

    async def respond(self, peer: Peer, replies: list[Reply]) -> None:
        if self.armed and any(reply.command is Command.SET_INFO for reply in replies):
            self.armed = False
            await peer.stream.aclose()
        else:
            await super().respond(peer, replies)


def test_an_open_file_waits_for_our_own_renaming_of_it_to_be_found_out() -> None:
    """The renaming itself waits for the link to settle before it looks what came of it."""

    async def main() -> None:
        server = RenamesAndHangsUp(Grant.NOTHING)
        server.armed = True
        server.tree.add_file("file", b"content")
        path = "file"
        async with connected(server, RECONNECTING) as share:
            file = await share.open("file")
            file.keep(lambda: path, lambda stat, lost_ns: stat.size == len(b"content"))
            await share.rename("file", "moved", replace=False)
            path = "moved"
            assert bytes(await file.read_at(0, 10)) == b"content"
            await file.close()
            await settled(server, share)

    trio.run(main)


def test_an_outage_is_counted_once_with_its_first_reason() -> None:
    """A connection on which no request goes on, as files are not given back on it, is no return."""
    history = History()
    history.note_return()
    assert (history.reconnects, history.lost_at) == (0, None)
    history.note_loss(TransportError("the line is cut"))
    lost_at = history.lost_at
    history.note_failure(TransportError("nobody there"))
    history.note_loss(TransportError("files are not given back"))
    assert (history.failures, history.obstacle) == (2, "files are not given back")
    history.note_return()
    history.note_return()
    assert (history.reconnects, history.reason, history.lost_at) == (1, "the line is cut", lost_at)
    assert (history.failures, history.obstacle) == (0, "")

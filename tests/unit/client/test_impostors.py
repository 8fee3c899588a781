"""Who is not the server, or not the client: relayed, reflected and guessed log-ons.

NTLM names no server, so what a client can do is to refuse one that does not have the session's key.
"""

from __future__ import annotations

from typing import Final

import pytest
import spnego
import trio

import engine
from engine import ntstatus
from engine.wire.constants import Command, SessionFlags
from tests.fakes.lies_messages import SESSION_ID, Says
from tests.fakes.lies_negotiation import EchoesLogOn, RelaysLogOn
from tests.fakes.lies_protection import LeavesUnsigned
from tests.fakes.server import running
from tests.fakes.server_lies import LyingServer
from tests.unit.client.support import ACCOUNT, DEADLINE, connected, refused

D = engine.Dialect
EACH_DIALECT = pytest.mark.parametrize("dialect", list(D), ids=lambda one: one.name)

_TARGET_NAME: Final = 9
"""MsvAvTargetName ([MS-NLMP] 2.2.2.1): the service that the client means."""


def ntlm_acceptor() -> spnego.ContextProxy:
    """Another server, which knows the account."""
    return spnego.server(protocol="negotiate", options=spnego.NegotiateOptions.use_negotiate)


def unsigned(dialect: engine.Dialect, *lies: Says) -> LyingServer:
    """A server that signs nothing and demands nothing."""
    return LyingServer(LeavesUnsigned(), *lies, dialect=dialect, signing_required=False)


@EACH_DIALECT
def test_a_relayed_log_on_gets_into_the_other_server_but_not_into_the_mount(dialect: engine.Dialect) -> None:
    """The man between has our log-on at the victim, as NTLM lets him, but no key: what he signs is wrong."""
    victim = ntlm_acceptor()
    server = LyingServer(dialect=dialect)
    server.accepts = RelaysLogOn(victim)
    refused(server, engine.RemoteProtocolError, "the log-on was altered")
    assert victim.complete


@EACH_DIALECT
def test_a_relayed_log_on_without_signatures_is_refused_too(dialect: engine.Dialect) -> None:
    server = unsigned(dialect)
    server.accepts = RelaysLogOn(ntlm_acceptor())
    refused(server, engine.RemoteProtocolError, "not signed")


@EACH_DIALECT
def test_a_relayed_log_on_is_found_also_where_signatures_are_given_up(dialect: engine.Dialect) -> None:
    """With `nosign` it is the confirmation of the negotiation that takes the key."""
    server = unsigned(dialect)
    server.accepts = RelaysLogOn(ntlm_acceptor())
    refused(server, engine.RemoteProtocolError, "not signed", engine.ConnectConfig(signing=False))


def test_a_relayed_log_on_that_is_turned_into_a_guests_is_refused() -> None:
    """A guest's session has no key that the man between would have to know."""
    for flag in SessionFlags.IS_GUEST, SessionFlags.IS_NULL:
        server = unsigned(D.SMB_2_1, Says(66, int(flag).to_bytes(2, "little"), Command.SESSION_SETUP))
        server.accepts = RelaysLogOn(ntlm_acceptor())
        refused(server, engine.AuthError, "only as a guest")


def test_a_log_on_names_the_server_that_it_is_for() -> None:
    """Servers can check it (SPN target validation), and the MIC over all three messages keeps it as it is."""
    relay = RelaysLogOn(ntlm_acceptor())
    server = LyingServer()
    server.accepts = relay
    refused(server, engine.RemoteProtocolError, ".")
    name = "cifs/127.0.0.1".encode("utf-16-le")
    pair = _TARGET_NAME.to_bytes(2, "little") + len(name).to_bytes(2, "little") + name
    assert pair in relay.heard[-1]


@pytest.mark.parametrize("legs", [1, 2, 5])
@EACH_DIALECT
def test_our_own_log_on_messages_sent_back_log_nobody_on(dialect: engine.Dialect, legs: int) -> None:
    server = LyingServer(dialect=dialect)
    server.accepts = EchoesLogOn(legs)
    refused(server, engine.AuthError, "make no sense|no session key|only as")


def test_a_session_that_becomes_another_one_in_the_middle_of_the_log_on() -> None:
    lie = Says(SESSION_ID, (77).to_bytes(8, "little"), Command.SESSION_SETUP)
    for config in None, engine.ConnectConfig(signing=False):
        server = LyingServer(lie, dialect=D.SMB_2_1, signing_required=False)
        refused(server, engine.RemoteProtocolError, "another session", config)


def test_a_path_that_belongs_to_another_server_is_refused_and_nobody_else_is_connected_to() -> None:
    """DFS: whoever follows it would log on to a server that this one has named."""

    async def main() -> None:
        server = LyingServer()
        async with connected(server) as share:
            server.refusals[Command.CREATE] = ntstatus.STATUS_PATH_NOT_COVERED
            with pytest.raises(engine.PathNotCovered):
                await share.stat("link")
            assert len(server.peers) == 1

    trio.run(main)


def test_the_password_is_in_no_error_and_no_description(caplog: pytest.LogCaptureFixture) -> None:
    """Nor in what is logged at the chattiest level, whatever goes wrong in the log-on."""
    canary = "Canary-7-of-the-log-on"
    account = engine.Credentials(ACCOUNT.username, canary)
    said: list[str] = [repr(account), str(account)]

    async def attempt(server: LyingServer) -> None:
        with trio.fail_after(DEADLINE):
            async with running(server):
                try:
                    async with engine.connect(server.unc, account):
                        pytest.fail("connected")
                except engine.SmbError as error:
                    failure: BaseException | None = error
                    while failure is not None:
                        said.append(repr(failure) + str(failure))
                        failure = failure.__cause__ or failure.__context__

    with caplog.at_level(0):
        for acceptor in None, EchoesLogOn(), RelaysLogOn(ntlm_acceptor()):
            server = LyingServer()
            server.accepts = acceptor
            trio.run(attempt, server)
    text = "\n".join([*said, caplog.text])
    assert len(said) >= 5
    for spelling in (canary, canary.encode("utf-16-le").hex(), canary.encode().hex()):
        assert spelling not in text

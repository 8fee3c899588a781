from __future__ import annotations

import pytest

from engine.errors import RemoteProtocolError
from engine.wire.ntlm_challenge import ChallengeMessage

HEAD = "4e544c4d53535000 02000000 "
PUBLISHED = (
    HEAD + "0c000c00 38000000 33828ae2 0123456789abcdef 0000000000000000 24002400 44000000 06007017 0000000f"
    "530065007200760065007200"
    "02000c0044006f006d00610069006e00 01000c00530065007200760065007200 00000000"
)
"""[MS-NLMP] 4.2.4.3."""

FIELDS = HEAD + "00000000 30000000 00000000 0000000000000000 0000000000000000 "
DNS = "0400 0200 6400 0300 0400 64003100"


def decode(text: str) -> ChallengeMessage:
    return ChallengeMessage.decode_untrusted(memoryview(bytes.fromhex(text)))


def test_the_published_one_has_no_names_of_dns() -> None:
    assert decode(PUBLISHED) == ChallengeMessage("", "")


@pytest.mark.parametrize("end", ["00000000", ""], ids=["ended", "not ended"])
def test_names(end: str) -> None:
    length = (len(bytes.fromhex(DNS + end))).to_bytes(2, "little").hex()
    assert decode(f"{FIELDS}{length}{length} 30000000 {DNS} {end}") == ChallengeMessage("d1", "d")
    assert decode(f"{FIELDS}{length}{length} 38000000 {bytes(8).hex()} {DNS} {end}").dns_domain_name == "d"


def test_what_comes_behind_the_end_is_not_read() -> None:
    assert decode(f"{FIELDS} 0e000e00 30000000 00000000 {DNS}") == ChallengeMessage()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4e544c4d53535000 01000000" + FIELDS[len(HEAD) :] + "00000000 30000000",
        "604806062b0601050502",
        FIELDS + "00000000 3000",
        FIELDS + "04000400 31000000 00000000",
        FIELDS + "02000200 30000000 0300",
        FIELDS + "06000600 30000000 0300 0400 6400",
        FIELDS + "05000500 30000000 0300 0100 64",
    ],
    ids=["empty", "type", "SPNEGO", "short", "outside", "half a pair", "long value", "odd value"],
)
def test_what_is_no_challenge_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(text)

"""What is offered, and which answers are refused ([MS-SMB2] 3.2.4.2.2, 3.2.5.2, 3.2.5.14.12)."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.crypto.sealing import CIPHER_PREFERENCE, Cipher
from engine.crypto.signing import SIGNING_PREFERENCE, SigningAlgorithm
from engine.errors import RemoteProtocolError
from engine.proto.negotiation import (
    MAX_SIZE,
    Negotiated,
    Offer,
    check_response_untrusted,
    check_validation_untrusted,
    negotiate_request,
    validate_request,
)
from engine.wire.constants import DIALECT_WILDCARD, Capabilities, Dialect, SecurityMode
from engine.wire.ioctl import ValidateNegotiateInfoResponse
from engine.wire.negotiate import (
    CompressionCapabilities,
    EncryptionCapabilities,
    NegotiateContext,
    NegotiateResponse,
    NetnameNegotiateContextId,
    PreauthIntegrityCapabilities,
    SigningCapabilities,
)

GUID = uuid.UUID(int=7)
PREAUTH = PreauthIntegrityCapabilities([1], b"salt")
ALL = Offer("srv", Dialect.SMB_2_0_2, Dialect.SMB_3_1_1, signing=True, seal=False)


def response(dialect: int, *contexts: NegotiateContext, capabilities: int = 0) -> NegotiateResponse:
    """An answer; 3.1.1 has the pre-authentication context by itself."""
    return NegotiateResponse(
        security_mode=SecurityMode.SIGNING_ENABLED,
        dialect_revision=dialect,
        server_guid=GUID,
        capabilities=capabilities,
        max_transact_size=1 << 20,
        max_read_size=1 << 20,
        max_write_size=1 << 20,
        contexts=(PREAUTH, *contexts) if dialect == Dialect.SMB_3_1_1 else (),
    )


def refused(answer: NegotiateResponse, match: str, offer: Offer = ALL) -> None:
    with pytest.raises(RemoteProtocolError, match=match):
        check_response_untrusted(offer, answer)


def test_all_dialects_between_the_limits_are_offered() -> None:
    request = negotiate_request(ALL)
    assert request.dialects == [0x0202, 0x0210, 0x0300, 0x0302, 0x0311]
    assert request.security_mode == SecurityMode.SIGNING_REQUIRED
    assert request.capabilities == (
        Capabilities.LEASING
        | Capabilities.LARGE_MTU
        | Capabilities.DIRECTORY_LEASING
        | Capabilities.ENCRYPTION
    )
    assert request.client_guid == ALL.client_guid
    preauth, encryption, signing, name = request.contexts
    assert isinstance(preauth, PreauthIntegrityCapabilities)
    assert len(preauth.salt) == 32
    assert encryption == EncryptionCapabilities(list(CIPHER_PREFERENCE))
    assert signing == SigningCapabilities(list(SIGNING_PREFERENCE))
    assert name == NetnameNegotiateContextId("srv")


def test_every_negotiation_has_a_salt_of_its_own() -> None:
    assert negotiate_request(ALL).contexts[0] != negotiate_request(ALL).contexts[0]


def test_contexts_are_for_3_1_1_and_capabilities_for_2_1() -> None:
    request = negotiate_request(replace(ALL, max_dialect=Dialect.SMB_3_0_2, signing=False))
    assert request.contexts == []
    assert request.dialects == [0x0202, 0x0210, 0x0300, 0x0302]
    assert request.security_mode == SecurityMode.SIGNING_ENABLED
    assert negotiate_request(replace(ALL, max_dialect=Dialect.SMB_2_0_2)).capabilities == 0


@pytest.mark.parametrize("dialect", [0x0200, 0x0310, DIALECT_WILDCARD, 0x0000, 0xFFFF])
def test_3_2_5_2_a_dialect_that_does_not_exist_is_refused(dialect: int) -> None:
    refused(response(dialect), "not offered")


def test_3_2_5_2_a_dialect_outside_the_limits_is_refused() -> None:
    only_3_0 = replace(ALL, min_dialect=Dialect.SMB_3_0, max_dialect=Dialect.SMB_3_0)
    for dialect in Dialect:
        if dialect is not Dialect.SMB_3_0:
            refused(response(dialect), "not offered", only_3_0)


@pytest.mark.parametrize("field", ["max_transact_size", "max_read_size", "max_write_size"])
def test_3_2_5_2_sizes_below_64_kib_are_refused(field: str) -> None:
    answer = response(Dialect.SMB_2_1)
    setattr(answer, field, 65535)
    refused(answer, "the server allows only 65535 bytes a message, less than 65536")


def test_sizes_are_cut_to_what_is_sensible() -> None:
    answer = response(Dialect.SMB_2_1, capabilities=Capabilities.LARGE_MTU)
    answer.max_read_size = 0xFFFFFFFF
    chosen = check_response_untrusted(ALL, answer)
    assert (chosen.max_read, chosen.max_write, chosen.max_transact) == (MAX_SIZE, 1 << 20, 1 << 20)
    assert chosen.large_mtu


@pytest.mark.parametrize(
    ("dialect", "leases", "directory_leases"),
    [(0x0202, False, False), (0x0210, True, False), (0x0300, True, True), (0x0302, True, True)],
)
def test_leases_as_the_dialect_knows_them(dialect: int, leases: bool, directory_leases: bool) -> None:
    offered = Capabilities.LEASING | Capabilities.DIRECTORY_LEASING
    chosen = check_response_untrusted(ALL, response(dialect, capabilities=offered))
    assert (chosen.leasing, chosen.directory_leasing) == (leases, directory_leases)
    chosen = check_response_untrusted(ALL, response(dialect))
    assert not chosen.leasing
    assert not chosen.directory_leasing


@pytest.mark.parametrize(("dialect", "capabilities"), [(0x0202, Capabilities.LARGE_MTU), (0x0210, 0)])
def test_without_large_mtu_64_kib_are_the_limit(dialect: int, capabilities: int) -> None:
    chosen = check_response_untrusted(ALL, response(dialect, capabilities=capabilities))
    assert not chosen.large_mtu
    assert (chosen.max_read, chosen.max_write, chosen.max_transact) == (65536, 65536, 65536)


@pytest.mark.parametrize(
    ("dialect", "algorithm"),
    [
        (Dialect.SMB_2_0_2, SigningAlgorithm.HMAC_SHA256),
        (Dialect.SMB_2_1, SigningAlgorithm.HMAC_SHA256),
        (Dialect.SMB_3_0, SigningAlgorithm.AES_CMAC),
        (Dialect.SMB_3_0_2, SigningAlgorithm.AES_CMAC),
        (Dialect.SMB_3_1_1, SigningAlgorithm.AES_CMAC),
    ],
)
def test_a_dialect_has_its_signing_algorithm(dialect: Dialect, algorithm: SigningAlgorithm) -> None:
    assert check_response_untrusted(ALL, response(dialect)).signing_algorithm is algorithm


@pytest.mark.parametrize("algorithm", list(SigningAlgorithm), ids=str)
def test_3_1_1_lets_the_server_choose_among_the_offered_algorithms(algorithm: SigningAlgorithm) -> None:
    answer = response(Dialect.SMB_3_1_1, SigningCapabilities([algorithm]))
    assert check_response_untrusted(ALL, answer).signing_algorithm is algorithm


@pytest.mark.parametrize("algorithms", [[], [7], [1, 2]])
def test_3_2_5_2_exactly_one_offered_signing_algorithm_is_taken(algorithms: list[int]) -> None:
    refused(response(Dialect.SMB_3_1_1, SigningCapabilities(algorithms)), "signing algorithms")


def test_3_2_5_2_a_signing_algorithm_that_was_not_offered_is_refused() -> None:
    offer = replace(ALL, signing_algorithms=[SigningAlgorithm.AES_CMAC])
    refused(response(Dialect.SMB_3_1_1, SigningCapabilities([2])), "signing algorithms", offer)


@pytest.mark.parametrize("cipher", list(Cipher), ids=str)
def test_3_1_1_lets_the_server_choose_among_the_offered_ciphers(cipher: Cipher) -> None:
    answer = response(Dialect.SMB_3_1_1, EncryptionCapabilities([cipher]))
    assert check_response_untrusted(ALL, answer).cipher is cipher


@pytest.mark.parametrize("ciphers", [[], [9], [1, 2], [0, 1]])
def test_3_2_5_2_exactly_one_offered_cipher_is_taken(ciphers: list[int]) -> None:
    refused(response(Dialect.SMB_3_1_1, EncryptionCapabilities(ciphers)), "ciphers")


def test_3_2_5_2_a_cipher_that_was_not_offered_is_refused() -> None:
    offer = replace(ALL, ciphers=[Cipher.AES_256_GCM])
    refused(response(Dialect.SMB_3_1_1, EncryptionCapabilities([2])), "ciphers", offer)


@pytest.mark.parametrize("contexts", [[], [EncryptionCapabilities([0])]])
def test_a_server_without_encryption_has_no_cipher(contexts: list[NegotiateContext]) -> None:
    assert check_response_untrusted(ALL, response(Dialect.SMB_3_1_1, *contexts)).cipher is None


@pytest.mark.parametrize(
    ("dialect", "capabilities", "cipher"),
    [
        (Dialect.SMB_2_1, Capabilities.ENCRYPTION, None),
        (Dialect.SMB_3_0, 0, None),
        (Dialect.SMB_3_0, Capabilities.ENCRYPTION, Cipher.AES_128_CCM),
        (Dialect.SMB_3_0_2, Capabilities.ENCRYPTION, Cipher.AES_128_CCM),
        (Dialect.SMB_3_1_1, Capabilities.ENCRYPTION, None),
    ],
)
def test_before_3_1_1_the_cipher_is_a_capability(
    dialect: Dialect, capabilities: int, cipher: Cipher | None
) -> None:
    assert check_response_untrusted(ALL, response(dialect, capabilities=capabilities)).cipher is cipher


@pytest.mark.parametrize(
    "doubled",
    [PREAUTH, EncryptionCapabilities([2]), SigningCapabilities([1])],
    ids=["preauthentication", "encryption", "signing"],
)
def test_3_2_5_2_a_context_that_comes_twice_is_refused(doubled: NegotiateContext) -> None:
    refused(
        response(Dialect.SMB_3_1_1, doubled, doubled), rf"the server sent {type(doubled).__name__} \d times"
    )


@pytest.mark.parametrize("hashes", [[], [2], [1, 1]])
def test_3_2_5_2_the_preauthentication_hash_has_to_be_the_offered_one(hashes: list[int]) -> None:
    answer = response(Dialect.SMB_3_1_1)
    answer.contexts = [PreauthIntegrityCapabilities(hashes, b"")]
    refused(answer, "SHA-512")


def test_3_2_5_2_the_preauthentication_context_has_to_be_there() -> None:
    answer = response(Dialect.SMB_3_1_1)
    answer.contexts = []
    refused(answer, "SHA-512")


def test_contexts_that_were_not_asked_for_are_ignored() -> None:
    answer = response(Dialect.SMB_3_1_1, CompressionCapabilities([1]), CompressionCapabilities([1]))
    assert check_response_untrusted(ALL, answer).dialect is Dialect.SMB_3_1_1


def test_the_server_may_require_signing() -> None:
    answer = response(Dialect.SMB_2_1)
    assert not check_response_untrusted(ALL, answer).signing_required
    answer.security_mode = SecurityMode.SIGNING_ENABLED | SecurityMode.SIGNING_REQUIRED
    assert check_response_untrusted(ALL, answer).signing_required


def negotiated() -> Negotiated:
    return check_response_untrusted(ALL, response(Dialect.SMB_3_0_2, capabilities=0x44))


def test_validation_repeats_the_offer_3_2_5_5() -> None:
    repeated, offered = validate_request(ALL), negotiate_request(ALL)
    assert repeated.capabilities == offered.capabilities
    assert repeated.guid == offered.client_guid
    assert repeated.security_mode == offered.security_mode
    assert list(repeated.dialects) == list(offered.dialects)


def test_3_2_5_14_12_the_same_answer_again_is_taken() -> None:
    check_validation_untrusted(negotiated(), ValidateNegotiateInfoResponse(0x44, GUID, 1, 0x0302))


@pytest.mark.parametrize(
    "said",
    [
        ValidateNegotiateInfoResponse(0x04, GUID, 1, 0x0302),
        ValidateNegotiateInfoResponse(0x44, uuid.UUID(int=8), 1, 0x0302),
        ValidateNegotiateInfoResponse(0x44, GUID, 3, 0x0302),
        ValidateNegotiateInfoResponse(0x44, GUID, 1, 0x0311),
    ],
    ids=["capabilities", "server guid", "security mode", "dialect"],
)
def test_3_2_5_14_12_any_other_answer_means_an_attack(said: ValidateNegotiateInfoResponse) -> None:
    with pytest.raises(RemoteProtocolError, match="altered the negotiation"):
        check_validation_untrusted(negotiated(), said)


@given(
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.lists(st.integers(0, 0xFFFFFFFF), min_size=3, max_size=3),
    st.lists(
        st.one_of(
            st.just(PREAUTH),
            st.builds(EncryptionCapabilities, st.lists(st.integers(0, 5), max_size=3)),
            st.builds(SigningCapabilities, st.lists(st.integers(0, 4), max_size=3)),
        ),
        max_size=4,
    ),
)
def test_whatever_the_server_says_is_within_the_offer_or_refused(
    dialect: int, capabilities: int, sizes: list[int], contexts: list[NegotiateContext]
) -> None:
    answer = response(dialect, capabilities=capabilities)
    answer.max_transact_size, answer.max_read_size, answer.max_write_size = sizes
    answer.contexts = contexts
    try:
        chosen = check_response_untrusted(ALL, answer)
    except RemoteProtocolError:
        return
    assert chosen.dialect in ALL.dialects
    assert min(chosen.max_read, chosen.max_write, chosen.max_transact) >= 65536
    assert max(chosen.max_read, chosen.max_write, chosen.max_transact) <= MAX_SIZE
    assert chosen.cipher is None or chosen.cipher in ALL.ciphers
    assert chosen.signing_algorithm in ALL.signing_algorithms

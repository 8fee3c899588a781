"""What is offered in NEGOTIATE, and whether the answer keeps to it ([MS-SMB2] 3.2.4.2.2, 3.2.5.2)."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from engine.crypto.sealing import CIPHER_PREFERENCE, Cipher
from engine.crypto.signing import SIGNING_PREFERENCE, SigningAlgorithm
from engine.errors import RemoteProtocolError
from engine.wire.constants import Capabilities, Dialect, HashAlgorithm, SecurityMode
from engine.wire.ioctl import ValidateNegotiateInfoRequest, ValidateNegotiateInfoResponse
from engine.wire.negotiate import (
    EncryptionCapabilities,
    NegotiateContext,
    NegotiateRequest,
    NegotiateResponse,
    NetnameNegotiateContextId,
    PreauthIntegrityCapabilities,
    SigningCapabilities,
)

MIN_SIZE: Final = 65536
"""No server may offer less for a read, a write or a transaction ([MS-SMB2] 3.2.5.2)."""

MAX_SIZE: Final = 8 * 1024 * 1024
"""More than this in one message helps nobody and would pin as much memory for each."""

_CLIENT_CAPABILITIES: Final = (
    Capabilities.LEASING | Capabilities.LARGE_MTU | Capabilities.DIRECTORY_LEASING | Capabilities.ENCRYPTION
)
_SALT_LENGTH: Final = 32


@dataclass(slots=True, frozen=True)
class Offer:
    """What this client can and wants on one connection."""

    server: str
    min_dialect: Dialect
    max_dialect: Dialect
    signing: bool
    seal: bool
    client_guid: uuid.UUID = field(default_factory=uuid.uuid4)
    ciphers: Sequence[Cipher] = CIPHER_PREFERENCE
    signing_algorithms: Sequence[SigningAlgorithm] = SIGNING_PREFERENCE

    @property
    def dialects(self) -> list[Dialect]:
        """The dialects between the two limits."""
        return [dialect for dialect in Dialect if self.min_dialect <= dialect <= self.max_dialect]

    @property
    def security_mode(self) -> SecurityMode:
        """What the client says of signing."""
        return SecurityMode.SIGNING_REQUIRED if self.signing else SecurityMode.SIGNING_ENABLED

    @property
    def capabilities(self) -> int:
        """[MS-SMB2] 3.2.4.2.2.2: 2.0.2 alone knows no capabilities."""
        return int(_CLIENT_CAPABILITIES) if self.max_dialect >= Dialect.SMB_2_1 else 0


@dataclass(slots=True, frozen=True)
class Negotiated:
    """What the server chose, checked against the offer."""

    dialect: Dialect
    server_guid: uuid.UUID
    server_security_mode: int
    client_security_mode: int
    server_capabilities: int
    large_mtu: bool
    max_transact: int
    max_read: int
    max_write: int
    signing_algorithm: SigningAlgorithm
    cipher: Cipher | None
    security_buffer: bytes
    leasing: bool = False
    """Leases of files."""
    directory_leasing: bool = False

    @property
    def signing_required(self) -> bool:
        """Whether the server insists on signatures."""
        return bool(self.server_security_mode & SecurityMode.SIGNING_REQUIRED)


def negotiate_request(offer: Offer) -> NegotiateRequest:
    """The NEGOTIATE that makes `offer`."""
    contexts: list[NegotiateContext] = []
    if offer.max_dialect >= Dialect.SMB_3_1_1:
        contexts = [
            PreauthIntegrityCapabilities([HashAlgorithm.SHA_512], secrets.token_bytes(_SALT_LENGTH)),
            EncryptionCapabilities(list(offer.ciphers)),
            SigningCapabilities(list(offer.signing_algorithms)),
            NetnameNegotiateContextId(offer.server),
        ]
    return NegotiateRequest(
        dialects=offer.dialects,
        security_mode=int(offer.security_mode),
        capabilities=offer.capabilities,
        client_guid=offer.client_guid,
        contexts=contexts,
    )


def check_response_untrusted(offer: Offer, response: NegotiateResponse) -> Negotiated:
    """Check the server's choice; raise `RemoteProtocolError` where it goes beyond the offer."""
    if response.dialect_revision not in offer.dialects:
        raise RemoteProtocolError(
            f"the server chose dialect 0x{response.dialect_revision:04X}, which was not offered"
        )
    dialect = Dialect(response.dialect_revision)
    sizes = (response.max_transact_size, response.max_read_size, response.max_write_size)
    if min(sizes) < MIN_SIZE:
        raise RemoteProtocolError(f"the server allows only {min(sizes)} bytes a message, less than 65536")
    large_mtu = dialect >= Dialect.SMB_2_1 and bool(response.capabilities & Capabilities.LARGE_MTU)
    limit = MAX_SIZE if large_mtu else MIN_SIZE
    return Negotiated(
        dialect=dialect,
        server_guid=response.server_guid,
        server_security_mode=response.security_mode,
        client_security_mode=int(offer.security_mode),
        server_capabilities=response.capabilities,
        large_mtu=large_mtu,
        max_transact=min(response.max_transact_size, limit),
        max_read=min(response.max_read_size, limit),
        max_write=min(response.max_write_size, limit),
        signing_algorithm=_signing_algorithm(offer, dialect, response.contexts),
        cipher=_cipher(offer, dialect, response),
        security_buffer=bytes(response.security_buffer),
        leasing=dialect >= Dialect.SMB_2_1 and bool(response.capabilities & Capabilities.LEASING),
        directory_leasing=dialect >= Dialect.SMB_3_0
        and bool(response.capabilities & Capabilities.DIRECTORY_LEASING),
    )


_Context = TypeVar("_Context")


def _only(contexts: Sequence[NegotiateContext], kind: type[_Context]) -> _Context | None:
    found = [context for context in contexts if isinstance(context, kind)]
    if len(found) > 1:
        raise RemoteProtocolError(f"the server sent {kind.__name__} {len(found)} times")
    return found[0] if found else None


def _signing_algorithm(
    offer: Offer, dialect: Dialect, contexts: Sequence[NegotiateContext]
) -> SigningAlgorithm:
    if dialect < Dialect.SMB_3_0:
        return SigningAlgorithm.HMAC_SHA256
    chosen = _only(contexts, SigningCapabilities) if dialect is Dialect.SMB_3_1_1 else None
    if chosen is None:
        return SigningAlgorithm.AES_CMAC
    algorithms = list(chosen.signing_algorithms)
    if len(algorithms) != 1 or algorithms[0] not in offer.signing_algorithms:
        raise RemoteProtocolError(f"the server chose signing algorithms {algorithms}, which were not offered")
    return SigningAlgorithm(algorithms[0])


def _cipher(offer: Offer, dialect: Dialect, response: NegotiateResponse) -> Cipher | None:
    if dialect < Dialect.SMB_3_0:
        return None
    if dialect < Dialect.SMB_3_1_1:
        return Cipher.AES_128_CCM if response.capabilities & Capabilities.ENCRYPTION else None
    preauth = _only(response.contexts, PreauthIntegrityCapabilities)
    if preauth is None or list(preauth.hash_algorithms) != [HashAlgorithm.SHA_512]:
        raise RemoteProtocolError("the server did not choose the pre-authentication hash SHA-512")
    chosen = _only(response.contexts, EncryptionCapabilities)
    if chosen is None:
        return None
    ciphers = list(chosen.ciphers)
    if ciphers == [0]:
        return None
    if len(ciphers) != 1 or ciphers[0] not in offer.ciphers:
        raise RemoteProtocolError(f"the server chose ciphers {ciphers}, which were not offered")
    return Cipher(ciphers[0])


def validate_request(offer: Offer) -> ValidateNegotiateInfoRequest:
    """The FSCTL_VALIDATE_NEGOTIATE_INFO input that repeats `offer` under a signature (3.2.5.5)."""
    return ValidateNegotiateInfoRequest(
        capabilities=offer.capabilities,
        guid=offer.client_guid,
        security_mode=int(offer.security_mode),
        dialects=offer.dialects,
    )


def check_validation_untrusted(negotiated: Negotiated, response: ValidateNegotiateInfoResponse) -> None:
    """Raise `RemoteProtocolError` if what the server really said differs (3.2.5.14.12)."""
    said = (response.capabilities, response.guid, response.security_mode, response.dialect)
    heard = (
        negotiated.server_capabilities,
        negotiated.server_guid,
        negotiated.server_security_mode,
        negotiated.dialect,
    )
    if said != heard:
        raise RemoteProtocolError(
            "somebody between client and server altered the negotiation: the connection is not safe"
        )

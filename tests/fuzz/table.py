"""All fuzz targets. A new decoder belongs here: `test_targets` fails for one that no target covers."""

from __future__ import annotations

from typing import Final

from tests.fuzz.client_targets import CLIENT_TARGETS
from tests.fuzz.crypto_targets import CRYPTO_TARGETS
from tests.fuzz.proto_targets import PROTO_TARGETS
from tests.fuzz.smbmount_targets import SMBMOUNT_TARGETS
from tests.fuzz.wire_targets import WIRE_TARGETS

TARGETS: Final = (*WIRE_TARGETS, *CRYPTO_TARGETS, *PROTO_TARGETS, *CLIENT_TARGETS, *SMBMOUNT_TARGETS)
BY_NAME: Final = {target.name: target for target in TARGETS}

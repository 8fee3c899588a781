"""The options of every throw-away Samba server of the tests, weaker than those that a test gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DEFAULT_GLOBAL_OPTIONS: Final[Mapping[str, str]] = {
    "server role": "standalone server",
    "workgroup": "SMBMOUNT",
    "server string": "smbmount test server",
    "interfaces": "lo",
    "bind interfaces only": "yes",
    "disable netbios": "yes",
    "server min protocol": "SMB2_02",
    "passdb backend": "tdbsam",
    "load printers": "no",
    "printing": "bsd",
    "printcap name": "/dev/null",
    "disable spoolss": "yes",
    "multicast dns register": "no",
    "usershare max shares": "0",
    "log level": "1",
    "max log size": "0",
    "unix extensions": "no",
}

DEFAULT_SHARE_OPTIONS: Final[Mapping[str, str]] = {
    "read only": "no",
    "strict sync": "yes",
    "ea support": "yes",
    "store dos attributes": "yes",
    "map archive": "no",
    "map hidden": "no",
    "map system": "no",
    "map readonly": "no",
}
"""DOS attributes live in extended attributes, as on a well-kept server, and FLUSH really reaches the disk."""

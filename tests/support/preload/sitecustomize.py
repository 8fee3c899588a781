"""For mounts: Python imports this by its name at its start, if its folder is in PYTHONPATH.

It has the names of hosts looked up in the file that SMBMOUNT_TEST_HOSTS names first, as if they were in DNS.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

_real = socket.getaddrinfo
_names = {
    name: line.split()[0]
    for line in Path(os.environ["SMBMOUNT_TEST_HOSTS"]).read_text().splitlines()
    for name in line.split()[1:]
}


def _getaddrinfo(host: bytes | str | None, port: bytes | str | int | None, *rest: Any, **more: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else host or ""
    return _real(_names.get(name.lower().rstrip("."), host), port, *rest, **more)


socket.getaddrinfo = _getaddrinfo

"""The published and the recorded examples of SMB 3's cryptography, as bytes."""

import json
from pathlib import Path
from typing import Any, Final

_HERE = Path(__file__).parent

PUBLISHED: Final[dict[str, list[dict[str, Any]]]] = json.loads((_HERE / "smb3_crypto.json").read_text())
RECORDED: Final[list[dict[str, Any]]] = json.loads((_HERE / "smb3_recorded.json").read_text())["sessions"]


def unhex(text: str | list[str] | None) -> bytes:
    """Return the bytes of a hex string, or of one cut into lines; b"" for null."""
    return bytes.fromhex("".join(text or ""))

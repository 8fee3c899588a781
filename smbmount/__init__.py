"""Mount an SMB share as a folder: no kernel module, no root, no upcalls."""

__version__ = "0.1.0"

"""`python -m smbmount`."""

import sys

from smbmount.cli import main

if __name__ == "__main__":
    sys.exit(main())

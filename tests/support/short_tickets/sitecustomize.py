"""Put on PYTHONPATH of a mount it makes every ticket for a service a short one, as a domain's policy may.

The domain of the tests gives nothing for a user's own ticket that ends within two minutes, and its policy
counts the tickets of services in hours. So the library is asked for `SMBMOUNT_TEST_LIFETIME` seconds, as any
program may ask; the rest is real: the domain grants that, and the server ends the session with it.
"""

from __future__ import annotations

import os
from functools import partial

import gssapi

vars(gssapi)["SecurityContext"] = partial(
    gssapi.SecurityContext, lifetime=int(os.environ["SMBMOUNT_TEST_LIFETIME"])
)

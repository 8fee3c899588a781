"""Floor 2: the protocol's state without any I/O: no sockets, no event loop, no clock."""

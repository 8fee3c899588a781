"""Floor 3: trio and sockets: connections, sessions, shares and open files."""

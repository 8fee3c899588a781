"""A folder that fails on command: a pass-through file system, to be the path of a server's share.

    with FaultyFolder() as folder:
        server = samba_factory({"data": ShareConfig(folder.path)})
        folder.tell(Room(1 << 20, errno.EDQUOT))

What is below `folder.path` is kept in `folder.backing`, which never fails. The file system is a process of
its own; when its owner ends, however it ends, the mount and both folders are taken away.
"""

from tests.support.faulty_folder.folder import FaultyFolder
from tests.support.faulty_folder.troubles import Calls, Fail, Heal, Room, Short, Slow, Trouble

__all__ = ["Calls", "Fail", "FaultyFolder", "Heal", "Room", "Short", "Slow", "Trouble"]

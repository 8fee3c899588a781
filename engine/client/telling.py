"""What the CREATE and CLOSE responses of a share tell of a file, as found out so far.

A CREATE response has times, sizes and attributes, and the "query on disk id" context adds an id
([MS-SMB2] 2.2.14, 2.2.14.2.9); only the number of links and the size of the extended attributes are left to
QUERY_INFO. Nothing says that DiskFileId is the IndexNumber of FileAllInformation and of listings, by which
files are told apart. So the two are compared for each volume before the first is taken for the second, and
one that differs, or is not sent, ends it for the share.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from engine.client.stat import FileStat
from engine.wire.create import CreateResponse
from engine.wire.create_contexts import CreateContext, QueryOnDiskIdRequest, QueryOnDiskIdResponse

log = logging.getLogger(__name__)


class Telling:
    """How much one share's responses may be relied on.

    `at_close`: whether CLOSE tells the attributes when it is asked to; True until one did not.
    """

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Nothing is known: another server answers from now on."""
        self.at_close = True
        self._volumes: set[int] = set()
        self._is_refused = False

    @property
    def contexts(self) -> Sequence[CreateContext]:
        """What a CREATE is to carry so that its response tells the id."""
        return () if self._is_refused else (QueryOnDiskIdRequest(),)

    @property
    def has_ids(self) -> bool:
        """Whether a CREATE response is likely to tell a file's id, so that QUERY_INFO can be left out."""
        return bool(self._volumes) and not self._is_refused

    def file_id(self, response: CreateResponse) -> int | None:
        """The id by which listings know the file; None if this response does not tell it for certain."""
        told = _disk_id(response)
        if told is None or told.volume_id not in self._volumes or self._is_refused:
            return None
        return told.disk_file_id

    def compare(self, response: CreateResponse, stat: FileStat) -> None:
        """Learn from a CREATE that carried `contexts`, and what QUERY_INFO told of the same handle."""
        if self._is_refused:
            return
        told = _disk_id(response)
        if told is not None and told.disk_file_id == stat.file_id:
            self._volumes.add(told.volume_id)
            return
        log.debug("the server does not tell file ids with CREATE: %s", told)
        self._is_refused = True


def _disk_id(response: CreateResponse) -> QueryOnDiskIdResponse | None:
    return next((one for one in response.contexts if isinstance(one, QueryOnDiskIdResponse)), None)

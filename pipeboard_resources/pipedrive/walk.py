"""Walking a list page by page without going round in circles: pure, fed with pages."""

from __future__ import annotations

from pipeboard_resources.pipedrive.endpoint import Endpoint, Page, Paging
from pipeboard_resources.pipedrive.errors import EndlessListError, RepeatedCursorError

__all__ = ["ListWalk"]

LONGEST_RUN_OF_EMPTY_PAGES = 20


class ListWalk:
    """Where in a list one is. Give each page to `advance` before it is used; `is_complete` after a proper end only."""

    def __init__(self, endpoint: Endpoint, cursor: str | None = None) -> None:
        self._endpoint = endpoint
        self._seen = {cursor or "0"} if endpoint.paging is Paging.OFFSET else {cursor}
        self._empty_pages = 0
        self.cursor = cursor
        self.number = 1
        self.is_complete = False

    def advance(self, page: Page) -> None:
        """Go on behind `page`. Raises RepeatedCursorError, EndlessListError."""
        self._empty_pages = 0 if page.records else self._empty_pages + 1
        if page.cursor is None:
            self.is_complete = True
            return
        if page.cursor in self._seen or self._goes_back(page.cursor):
            raise RepeatedCursorError(
                self._endpoint.name, "a cursor that was read before", page=self.number, status=200
            )
        if self._empty_pages > LONGEST_RUN_OF_EMPTY_PAGES:
            seen = f"{self._empty_pages} pages in a row without a record"
            raise EndlessListError(self._endpoint.name, seen, page=self.number, status=200)
        self._seen.add(page.cursor)
        self.cursor, self.number = page.cursor, self.number + 1

    def _goes_back(self, cursor: str) -> bool:
        return self._endpoint.paging is Paging.OFFSET and int(cursor) <= int(self.cursor or 0)

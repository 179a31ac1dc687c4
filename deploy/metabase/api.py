"""Metabase's REST API, as far as it is needed: an answer, or an error that says what to do.

Asked for with an API key (Metabase 0.49 and newer). Metabase promises no version of its API; each of its servers shows
its own under /api/docs.
"""

from types import TracebackType
from typing import Any, Self

import httpx

_TIMEOUT_SECONDS = 60


class MetabaseError(Exception):
    """What was asked of Metabase, what came back, what to do."""


class Metabase:
    """A server. Use as a context manager; the key is in no message."""

    def __init__(self, url: str, api_key: str) -> None:
        self._client = httpx.Client(
            base_url=url.rstrip("/"), headers={"X-API-Key": api_key}, timeout=_TIMEOUT_SECONDS, follow_redirects=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, **parameters: Any) -> Any:
        return self._ask("GET", path, params=parameters)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._ask("POST", path, json=body or {})

    def put(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask("PUT", path, json=body)

    def _ask(self, method: str, path: str, **request: Any) -> Any:
        asked = f"{method} {path}"
        try:
            answer = self._client.request(method, path, **request)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise MetabaseError(
                f"{asked}: no answer from {self._client.base_url} ({error}). Look whether Metabase runs there."
            ) from error
        if answer.is_error:
            raise MetabaseError(
                f"{asked}: Metabase answered {answer.status_code}: {answer.text[:500]}. {_remedy(answer)}"
            )
        try:
            return answer.json() if answer.content else None
        except ValueError as error:
            raise MetabaseError(
                f"{asked}: the answer is no JSON. Look whether {self._client.base_url} is Metabase's address."
            ) from error


def _remedy(answer: httpx.Response) -> str:
    if answer.status_code in (401, 403):
        return "METABASE_API_KEY must be a key of the group Administrators: Admin settings > Authentication > API keys."
    return f"This server's own API is described at {answer.request.url.join('/api/docs')}."

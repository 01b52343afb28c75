"""Requests to Airflow's REST API as one user, with the standard library only; its refusals become our errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from include.engine.errors import Contended, NotFound, PermanentError, Unauthorized, Unreachable


class RestClient:
    """One user's access to the REST API.  Logs in on the first request.

    :param url: where the API server is, without a path
    :param timeout: seconds that one request may take
    """

    def __init__(self, url: str, username: str, password: str, *, timeout: float = 60.0) -> None:
        self.timeout = timeout
        self.url = url.rstrip("/")
        self.username = username
        self._password = password
        self._token = ""

    def get(self, path: str, **query: Any) -> Any:
        """GET ``/api/v2/<path>``."""
        return self._request("GET", f"{path}?{urlencode(query)}" if query else path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """POST *body* to ``/api/v2/<path>``."""
        return self._request("POST", path, body)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """PATCH ``/api/v2/<path>`` with *body*."""
        return self._request("PATCH", path, body)

    def delete(self, path: str) -> None:
        """Delete *path* below ``/api/v2/``.

        :raises NotFound: it is not there
        """
        self._request("DELETE", path, None)

    def bearer(self) -> str:
        """Log in when that was not done yet, and give the token."""
        if not self._token:
            credentials = {"username": self.username, "password": self._password}
            self._token = str(self._send("POST", "/auth/token", credentials, {})["access_token"])
        return self._token

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        return self._send(method, f"/api/v2/{path}", body, {"Authorization": f"Bearer {self.bearer()}"})

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Any:
        raw = None if body is None else json.dumps(body).encode()
        request = Request(  # noqa: S310 - the URL is the operator's own
            self.url + path,
            data=raw,
            method=method,
            headers={"Content-Type": "application/json", "Accept": "application/json", **headers},
        )
        what = f"{method} {self.url}{path.partition('?')[0]}"
        try:
            with urlopen(request, timeout=self.timeout) as response:  # noqa: S310
                return json.loads(response.read() or b"null")
        except HTTPError as error:
            raise _told(what, error) from error
        except (URLError, TimeoutError, ConnectionError) as error:
            raise Unreachable(f"{what} got no answer: {error}", hint="Check that Airflow's API server runs") from error
        except ValueError as error:  # Airflow answers an unknown path with its page and 200
            raise PermanentError(f"{what} was not answered with JSON", hint="Check the URL") from error


def _told(what: str, error: HTTPError) -> Exception:
    text = error.read().decode(errors="replace")
    with suppress(ValueError, AttributeError):
        text = str(json.loads(text).get("detail", text))
    message = f"{what} was answered {error.code}: {text[:500]}"
    if error.code in (401, 403):
        return Unauthorized(message, hint="Log in as a user who may do this")
    if error.code == 404:
        return NotFound(message, hint="Check its name; a new DAG is found within a minute")
    if error.code == 409:
        return Contended(message, hint="It is there already")
    if error.code >= 500:
        return Unreachable(message, hint="Read the API server's log")
    return PermanentError(message, hint="Mend the request")

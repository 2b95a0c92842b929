"""One policy for HTTP requests: how long a server may be silent or slow, and where it may redirect to.

Statistics and weights are requested with urllib (`open_url`), images through fsspec (`client_options`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

STALL_SECONDS = 30.0  # without a byte
MIN_BYTES_PER_SECOND = 1000  # on average over `SLOW_SECONDS`
SLOW_SECONDS = 60.0
_HEADER_SECONDS = 60.0  # until all headers of a response are there
_REQUEST_SECONDS = 600.0  # of one request of image data, which is a few megabytes


def open_url(url: str, byte_range: str | None, authorization: str | None, timeout: float) -> Any:
    """Send a GET request to an HTTP server and return the response, which the caller must close.

    Args:
        url: an http:// or https:// URL.
        byte_range: value of the Range header, or None for the whole file; a server may ignore it.
        authorization: value of the Authorization header, or None.
        timeout: seconds without a byte after which the connection is closed.

    Raises:
        URLError: the server cannot be reached, or redirects to another scheme.
        TimeoutError: the headers are not complete in time.
        InvalidURL: the name of the host is not valid.
    """
    import http.client
    import urllib.request

    request = urllib.request.Request(url, headers={"Range": byte_range} if byte_range else {})  # noqa: S310, callers check the protocol
    if authorization:
        request.add_unredirected_header("Authorization", authorization)
    opener = urllib.request.build_opener(_make_redirect_handler())
    try:
        return _open_within(_HEADER_SECONDS, lambda: opener.open(request, timeout=timeout))
    except UnicodeError as error:  # of the host's encoding for the DNS
        raise http.client.InvalidURL(f"{request.host} is not a valid host name") from error


def read_blocks(response: Any, block_size: int) -> Iterator[bytes]:
    """Yield the content of a response as it arrives.

    Raises:
        TimeoutError: fewer than `MIN_BYTES_PER_SECOND` arrive.
    """
    start, received = time.monotonic(), 0
    while block := response.read1(block_size):
        yield block
        received += len(block)
        seconds = time.monotonic() - start
        if seconds > SLOW_SECONDS:
            if received < MIN_BYTES_PER_SECOND * seconds:
                raise TimeoutError(f"only {received} bytes arrived in {seconds:.0f} s")
            start, received = time.monotonic(), 0


def client_options(url: str) -> dict[str, Any]:
    """Return the options of fsspec's file system of a URL that apply this policy; empty unless it is HTTP."""
    return _client_options() if urlsplit(url).scheme.lower() in ("http", "https") else {}


@cache  # fsspec shares a connection between file systems whose options are the same objects
def _client_options() -> dict[str, Any]:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS, sock_connect=STALL_SECONDS, sock_read=STALL_SECONDS)
    return {"client_kwargs": {"timeout": timeout, "trace_configs": [_make_redirect_trace()]}}


def _is_allowed_redirect(source: str, target: str) -> bool:
    """Return whether a redirect keeps the scheme, or only adds encryption."""
    schemes = (urlsplit(source).scheme.lower(), urlsplit(target).scheme.lower())
    return schemes[0] == schemes[1] or schemes == ("http", "https")


def _make_redirect_handler() -> Any:
    import urllib.error
    import urllib.request

    class RedirectHandler(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            if not _is_allowed_redirect(req.full_url, newurl):
                fp.close()
                raise urllib.error.URLError(_describe_redirect(newurl))
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    return RedirectHandler


def _make_redirect_trace() -> Any:
    import aiohttp

    async def on_redirect(_session: Any, _context: Any, params: Any) -> None:
        target = str(params.url.join(type(params.url)(params.response.headers.get("Location", ""))))
        if not _is_allowed_redirect(str(params.url), target):
            raise PermissionError(_describe_redirect(target))

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(on_redirect)
    return trace


def _describe_redirect(target: str) -> str:
    return f"the server redirects to {urlsplit(target).scheme}://, and redirects to another scheme are not followed"


def _open_within(seconds: float, open_response: Callable[[], Any]) -> Any:
    """Return the response that a function opens; a response that comes too late is closed.

    Raises:
        TimeoutError: it takes longer.
    """
    responses: list[Any] = []
    errors: list[BaseException] = []
    is_late = Event()

    def call() -> None:
        try:
            responses.append(open_response())
        except BaseException as error:
            errors.append(error)
        if is_late.is_set() and responses:
            responses.pop().close()

    thread = Thread(target=call, daemon=True, name="request")
    thread.start()
    thread.join(seconds)
    is_late.set()
    if errors:
        raise errors.pop()  # or its traceback would keep the connection alive
    if not responses:
        raise TimeoutError(f"the server did not answer within {seconds:.0f} s")
    return responses.pop()

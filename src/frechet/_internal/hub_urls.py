"""Turn addresses of the Hugging Face Hub, and pages that show a file, into URLs that serve the file."""

from __future__ import annotations

import os
import re

_HUB_PATH = re.compile(
    r"hf://(?P<repository>(?:(?:datasets|spaces)/)?[^/@]+/[^/@]+)(?:@(?P<revision>refs/[^/]+/[^/]+|[^/]+))?/(?P<path>.+)",
    re.IGNORECASE | re.DOTALL,
)
_HUB_PAGE = re.compile(r"^(/(?:(?:datasets|spaces)/)?(?:[^/]+/)?[^/]+)/(?:blob|raw)/")
_GITHUB_PAGE = re.compile(r"(https?://github\.com/[^/]+/[^/]+)/blob/", re.IGNORECASE)


def hub_endpoint() -> str:
    """Return the URL of the Hub or of the mirror that the environment variable HF_ENDPOINT names."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def resolve_file_url(url: str) -> str:
    """Return the URL that serves a file, given its hf:// address, its page on the Hub or on GitHub, or another URL.

    Args:
        url: hf://[datasets/]OWNER/NAME[@REVISION]/PATH, .../blob/REVISION/PATH, or a URL that is returned unchanged.

    Example:
        >>> resolve_file_url("hf://jjiaweiyang/FD-Loss/data/stats.pkl")
        'https://huggingface.co/jjiaweiyang/FD-Loss/resolve/main/data/stats.pkl'
    """
    import urllib.parse  # here, because most runs do not need it

    if address := _HUB_PATH.fullmatch(url):
        revision = urllib.parse.quote(urllib.parse.unquote(address["revision"] or "main"), safe="")
        return f"{hub_endpoint()}/{address['repository']}/resolve/{revision}/{address['path']}"
    for host in {hub_endpoint(), "https://huggingface.co"}:
        if url.startswith(f"{host}/"):
            return host + _HUB_PAGE.sub(r"\1/resolve/", url[len(host) :], count=1)
    return _GITHUB_PAGE.sub(r"\1/raw/", url, count=1)


def hub_authorization(url: str) -> str | None:
    """Return the Authorization header for a file of the Hub if the environment variable HF_TOKEN is set."""
    token = os.environ.get("HF_TOKEN")
    return f"Bearer {token}" if token and url.startswith(f"{hub_endpoint()}/") else None

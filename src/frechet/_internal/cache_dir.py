"""The user's cache folder."""

from __future__ import annotations

from pathlib import Path

from frechet.errors import RequestError


def user_cache_dir(content: str) -> Path:
    """Return the user's cache folder for one kind of content, e.g. "weights".

    Raises:
        RequestError: the user has no home folder, as in containers with arbitrary user ids, and no variable names a cache.
    """
    import platformdirs  # imported here because most runs do not need it

    try:
        folder = Path(platformdirs.user_cache_dir("frechet"))
    except RuntimeError:
        folder = Path("~")
    if not folder.is_absolute():  # before version 4.5, platformdirs returned ~/.cache as it is
        raise RequestError(
            f"cached {content} cannot be stored, because this user does not have a home folder. "
            "Set HOME, or XDG_CACHE_HOME, to a writable folder."
        )
    return folder / content

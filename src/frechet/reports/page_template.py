"""Render the templates of pages: one file each, which loads nothing and executes only its own script."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from pathlib import Path
from typing import Any

from frechet._internal.terminal import escape_line
from frechet.errors import RequestError
from frechet.reports.text import format_number
from frechet.version import __version__

_TEMPLATES = Path(__file__).parent / "templates"


def require_packages() -> None:
    """Check that the packages that render a page are installed.

    Raises:
        RequestError: a package is missing.
    """
    for package in ("jinja2", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            raise RequestError(
                f"an HTML report needs {package}, which is not installed; run pip install 'frechet[report]'"
            )


def render_template(template: str, **context: Any) -> str:
    """Render a template. Everything except `Markup` is escaped."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "line": escape_line,
        "safe_svg": Markup,
        "count": format_count,
        "number": format_page_number,
        "signed": lambda value: typeset_minus(f"{value:+.3g}"),
        "minus": typeset_minus,
    }
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = (_TEMPLATES / "page.css").read_text(encoding="utf-8")
    page = environment.get_template(template)
    own = {"script": Markup(script), "script_digest": digest, "style": Markup(style), "version": __version__}  # noqa: S704
    return page.render(**own, **context)


def format_count(n: int | None) -> str:
    """Format a number of images."""
    return "an unknown number of" if n is None else f"{n:,}"


def format_page_number(value: float) -> str:
    """Format a number with four significant digits and a minus sign."""
    return typeset_minus(format_number(value))


def typeset_minus(text: str) -> str:
    """Replace the hyphens of a formatted number by minus signs."""
    return text.replace("-", "\N{MINUS SIGN}")

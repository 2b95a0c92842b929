"""Dataclasses as the one definition of a request: keywords of a function, options of a command, and their descriptions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, field, fields
from functools import wraps
from inspect import Parameter, signature
from typing import Any, ParamSpec, TypeVar

from frechet._internal.choices import find_nearest
from frechet._internal.words import join_words

P = ParamSpec("P")
Request = TypeVar("Request")
Result = TypeVar("Result")


def option(default: Any, description: str, *, metavar: str | None = None) -> Any:
    """Define a dataclass field that is also a command-line option.

    Args:
        default: the field's default.
        description: the option's help: complete on its own, starting with a verb or a noun.
        metavar: the name of the value in the help; None for a flag.
    """
    return field(default=default, metadata={"description": description, "metavar": metavar})


def name_option(name: str) -> str:
    """Return the option of a field with its keyword, for messages.

    Example:
        >>> name_option("num_images")
        '--num-images (num_images=)'
    """
    return f"--{name.replace('_', '-')} ({name}=)"


def option_fields(request_type: type) -> list[Field[Any]]:
    """Return the fields of a dataclass that were defined by `option`, in order."""
    return [each for each in fields(request_type) if "description" in each.metadata]


def takes_fields_of(
    request_type: Callable[P, Request],
) -> Callable[[Callable[[Request], Result]], Callable[P, Result]]:
    """Let a function of one request object be called with the fields of that request.

    The decorated function has the signature of the dataclass's constructor, for type checkers as well as for `help()`.

    Args:
        request_type: the dataclass.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Sum:
        ...     a: int
        ...     b: int = 1
        >>> @takes_fields_of(Sum)
        ... def add(request: Sum) -> int:
        ...     return request.a + request.b
        >>> add(2, b=3)
        5
    """

    def decorate(function: Callable[[Request], Result]) -> Callable[P, Result]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Result:
            renamed = getattr(request_type, "KEYWORDS_OF_OTHER_TOOLS", {})
            name, parameters = f"frechet.{function.__name__}", signature(request_type).parameters
            validate_keywords(name, kwargs, parameters, renamed)
            _validate_positions(name, args, kwargs, parameters)
            return function(request_type(*args, **kwargs))

        call.__signature__ = signature(request_type)  # type: ignore[attr-defined]
        return call

    return decorate


def _validate_positions(
    function_name: str, args: Sequence[Any], keywords: Mapping[str, Any], parameters: Mapping[str, Parameter]
) -> None:
    """Reject positional arguments that a function does not have, and a call without those that it needs.

    Raises:
        TypeError: what was given, and what is expected.
    """
    positional = [name for name, each in parameters.items() if each.kind is each.POSITIONAL_OR_KEYWORD]
    accepted = f"{function_name}() takes {join_words(positional)} by position, and all other arguments by keyword"
    if len(args) > len(positional):
        raise TypeError(f"{accepted}; got {len(args)} positional arguments")
    if twice := [name for name in positional[: len(args)] if name in keywords]:
        raise TypeError(f"{function_name}() got {join_words(twice)} by position and by keyword; pass it once")
    given = {*positional[: len(args)], *keywords}
    if missing := [name for name, each in parameters.items() if each.default is each.empty and name not in given]:
        raise TypeError(
            f"{function_name}() needs {join_words(missing)}, which {'is' if len(missing) == 1 else 'are'} missing. {accepted}."
        )


def list_keywords(function: Callable[..., Any]) -> list[str]:
    """Return the names of the arguments of a function or class, those that a class passes on to its base classes included."""
    owners = (
        [each for each in function.__mro__ if "__init__" in vars(each)] if isinstance(function, type) else [function]
    )
    names: dict[str, None] = {}
    for owner in owners:
        parameters = signature(owner).parameters.values()
        names |= {
            each.name: None for each in parameters if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)
        }
        if all(each.kind is not each.VAR_KEYWORD for each in parameters):
            break
    return list(names)


def validate_keywords(
    function_name: str, keywords: Iterable[str], known: Iterable[str], renamed: Mapping[str, str] | None = None
) -> None:
    """Reject keywords that a function does not have.

    Args:
        function_name: the function, as it is shown.
        keywords: the keywords that were passed.
        known: the keywords of the function.
        renamed: for keywords of other tools, the known one that is meant.

    Raises:
        TypeError: names the unknown keyword and the closest known one, or all of them.
    """
    names = list(known)
    for keyword in keywords:
        if keyword not in names:
            closest = (renamed or {}).get(keyword) or find_nearest(keyword, names)
            hint = f"did you mean {closest!r}?" if closest in names else f"choose from {', '.join(names)}"
            raise TypeError(f"{function_name}() got an unexpected keyword argument {keyword!r}; {hint}")

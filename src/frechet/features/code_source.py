"""Hashes of the code of functions, from its syntax tree or, without the source, its instructions; and the names that it loads."""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import linecache
from collections.abc import Iterator
from types import CodeType
from typing import Any, NamedTuple

Chain = tuple[tuple[str, Any], ...]  # ("attribute", name) or ("item", key), from the outside to the inside

_GLOBALS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_FREE = {"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"}
_ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD"}
_OF_NO_EFFECT = {"CACHE", "EXTENDED_ARG", "NOP", "RESUME", "PRECALL"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_IGNORED_FIELDS = {"annotation", "returns", "ctx", "type_comment", "kind", "type_params", "simple"}


class UsedNames(NamedTuple):
    """The names outside of a function that its code loads.

    Attributes:
        global_names: name -> what the code loads of the value: chains of attributes and items, () for the value itself.
        free_names: the same for the variables of enclosing functions.
        imports: (name, level) of a module that the code imports -> the names that it imports from it.
        attributes: all attributes that the code loads.
        texts: the strings in the code, which may be names for `getattr` or `globals`.
    """

    global_names: dict[str, set[Chain]]
    free_names: dict[str, set[Chain]]
    imports: dict[tuple[str, int], set[str]]
    attributes: set[str]
    texts: set[str]


def hash_source(code: CodeType, module_globals: dict[str, Any]) -> str:
    """Return the sha256 of the code of a function.

    It is that of the syntax tree, which is the same in each version of Python, without comments, docstrings, annotations and
    positions. Without the source, as in an interactive session, it is that of the instructions, and so it is if the file has
    changed since it was imported.
    """
    source = "".join(linecache.getlines(code.co_filename, module_globals))
    tree = _find_tree(code, source) if source else None
    if tree is None:
        linecache.checkcache(code.co_filename)
        source = "".join(linecache.getlines(code.co_filename, module_globals))
        tree = _find_tree(code, source) if source else None
    content = "".join(_dump_instructions(code)) if tree is None else tree
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def find_used_names(code: CodeType) -> UsedNames:
    """Return the names that a function, and the functions within it, load from outside."""
    used = UsedNames({}, {}, {}, set(), set())
    for each in _iter_codes(code):
        _collect_names(each, used, set(code.co_freevars))
    return used


def iter_stored_attributes(code: CodeType) -> Iterator[str]:
    """Yield the attributes that a function, and the functions within it, assign."""
    for each in _iter_codes(code):
        yield from (step.argval for step in dis.get_instructions(each) if step.opname == "STORE_ATTR")


def _collect_names(code: CodeType, used: UsedNames, free: set[str]) -> None:
    steps = [step for step in dis.get_instructions(code) if step.opname not in _OF_NO_EFFECT]
    used.texts.update(each for each in code.co_consts if isinstance(each, str))
    for position, step in enumerate(steps):
        if step.opname in _ATTRIBUTES:
            used.attributes.add(step.argval)
        elif step.opname in _GLOBALS:
            used.global_names.setdefault(step.argval, set()).add(_read_chain(steps, position + 1))
        elif (
            step.opname in _FREE and step.argval in free and step.argval != "__class__"
        ):  # of super(), from Python 3.12 on
            used.free_names.setdefault(step.argval, set()).add(_read_chain(steps, position + 1))
        elif step.opname == "IMPORT_NAME":
            level = steps[position - 2].argval
            names = used.imports.setdefault((step.argval, level if isinstance(level, int) else 0), set())
            names.update(steps[position - 1].argval or ())


def _read_chain(steps: list[dis.Instruction], position: int) -> Chain:
    """Return the attributes and constant items that are loaded of the value on the stack."""
    chain = []
    while position < len(steps):
        step, following = steps[position], steps[position + 1 : position + 2]
        if step.opname in _ATTRIBUTES:
            chain.append(("attribute", step.argval))
            position += 1
        elif step.opname == "LOAD_CONST" and following and _is_subscript(following[0]):
            chain.append(("item", step.argval))
            position += 2
        else:
            break
    return tuple(chain)


def _is_subscript(step: dis.Instruction) -> bool:
    return step.opname == "BINARY_SUBSCR" or (step.opname == "BINARY_OP" and step.argrepr == "[]")


def _iter_codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _iter_codes(constant)


def _dump_instructions(code: CodeType) -> Iterator[str]:
    """Yield the instructions without line numbers, docstrings and names of files."""
    steps = list(dis.get_instructions(code))
    positions = {step.offset: number for number, step in enumerate(steps)}
    yield f"{code.co_argcount} {code.co_posonlyargcount} {code.co_kwonlyargcount} {code.co_varnames} {code.co_freevars}\n"
    yield f"{getattr(code, 'co_exceptiontable', b'')!r}\n"
    for number, step in enumerate(steps):
        if step.opname in _OF_NO_EFFECT:
            continue
        yield f"{step.opname} "
        if isinstance(step.argval, CodeType):
            yield from _dump_instructions(step.argval)
        elif step.opcode in dis.hasjrel or step.opcode in dis.hasjabs:
            yield f"{positions.get(step.argval, step.argval) - number}\n"
        elif isinstance(step.argval, frozenset):
            yield f"{sorted(map(repr, step.argval))}\n"
        else:
            yield f"{type(step.argval).__name__} {step.argval!r}\n"


class _File(NamedTuple):
    """The functions of a source file: instructions -> lines, and (name, line) -> syntax trees."""

    lines: dict[tuple[str, str], list[int]]
    trees: dict[tuple[str, int], list[ast.AST]]


@functools.lru_cache(maxsize=16)
def _read_file(source: str) -> _File | None:
    try:
        tree, compiled = ast.parse(source), compile(source, "source", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return None
    file = _File({}, {})
    for code in _iter_codes(compiled):
        file.lines.setdefault((code.co_name, _hash_instructions(code)), []).append(code.co_firstlineno)
    for node in ast.walk(tree):
        if isinstance(node, _FUNCTIONS):
            decorators = getattr(node, "decorator_list", [])
            line = min([node.lineno, *(each.lineno for each in decorators)])
            file.trees.setdefault((getattr(node, "name", "<lambda>"), line), []).append(node)
    return file


def _hash_instructions(code: CodeType) -> str:
    return hashlib.sha256("".join(_dump_instructions(code)).encode("utf-8", "surrogatepass")).hexdigest()


def _find_tree(code: CodeType, source: str) -> str | None:
    """Return the syntax tree of a function in a source file, or None if there is none with these instructions."""
    file = _read_file(source)
    lines = file.lines.get((code.co_name, _hash_instructions(code)), []) if file else []
    if file is None or not lines:
        return None
    line = min(lines, key=lambda each: abs(each - code.co_firstlineno))
    trees = file.trees.get((code.co_name, line), [])
    if len(trees) != 1:  # several lambdas in one line
        return None
    (function,) = trees
    arguments: Any = function.args  # type: ignore[attr-defined]
    defaults = {"defaults", "kw_defaults"}  # whose values are known
    body: Any = function.body  # type: ignore[attr-defined]
    return "".join([*_dump_fields(arguments, _IGNORED_FIELDS | defaults), *_dump_tree(body, in_function=True)])


def _dump_tree(node: Any, *, in_function: bool) -> Iterator[str]:
    """Yield what a syntax tree, or a list of them, means; fields without a value, which depend on Python's version, are omitted."""
    if isinstance(node, list):
        for each in node:
            yield from _dump_tree(each, in_function=in_function)
    elif not isinstance(node, ast.AST):
        yield f"{node!r} "
    elif isinstance(node, ast.Constant):
        value = sorted(map(repr, node.value)) if isinstance(node.value, frozenset) else node.value
        yield f"{type(node.value).__name__} {value!r} "
    elif isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        pass  # without effect, such as docstrings
    elif isinstance(node, ast.JoinedStr):  # with empty strings in some versions
        values = [each for each in node.values if not (isinstance(each, ast.Constant) and each.value == "")]
        yield "JoinedStr("
        yield from _dump_tree(values, in_function=in_function)
        yield ")"
    elif isinstance(node, ast.AnnAssign) and in_function and node.value is not None:
        yield from _dump_tree(ast.Assign(targets=[node.target], value=node.value), in_function=True)
    else:
        is_class = isinstance(node, ast.ClassDef)
        yield from _dump_fields(node, _IGNORED_FIELDS, in_function=not is_class and in_function)


def _dump_fields(node: ast.AST, ignored: set[str], *, in_function: bool = True) -> Iterator[str]:
    yield f"{type(node).__name__}("
    for name, value in ast.iter_fields(node):
        if name not in ignored and value is not None and value != []:
            yield f"{name}="
            yield from _dump_tree(value, in_function=in_function or isinstance(node, _FUNCTIONS))
            yield ","
    yield ")"

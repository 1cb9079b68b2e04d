"""A module's text -> its mutants: the same text with one small mistake.

Which mistakes: of cosmic-ray's some. It knows eleven other operators for each arithmetical one, and what
notices one of them notices nearly all, so there is one or two for each here. Left out is what can make no
difference or is mypy's to see: annotations, ``@override``, ``frozen`` and ``slots`` of a dataclass.
"""

from __future__ import annotations

import ast
import difflib
import importlib
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["Mutant", "mutants"]

_COMPARISONS = {
    "Eq": ("NotEq", "LtE", "GtE"),
    "NotEq": ("Eq", "Lt", "Gt"),
    "Lt": ("LtE", "NotEq", "GtE"),
    "LtE": ("Lt", "Eq", "Gt"),
    "Gt": ("GtE", "NotEq", "LtE"),
    "GtE": ("Gt", "Eq", "Lt"),
    "Is": ("IsNot",),
    "IsNot": ("Is",),
}
_ARITHMETIC = {
    "Add": ("Sub",),
    "Sub": ("Add",),
    "Mul": ("FloorDiv",),
    "Div": ("Mul",),
    "FloorDiv": ("Mul",),
    "Mod": ("FloorDiv",),
    "Pow": ("Mul",),
    "RShift": ("LShift",),
    "LShift": ("RShift",),
    "BitOr": ("BitAnd", "BitXor"),
    "BitAnd": ("BitOr",),
    "BitXor": ("BitOr",),
}
_OTHERS = (
    "AddNot",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ExceptionReplacer",
    "NumberReplacer",
    "RemoveDecorator",
    "ZeroIterationForLoop",
    "ReplaceUnaryOperator_USub_UAdd",
    "ReplaceUnaryOperator_Delete_USub",
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_Delete_Invert",
)
OPERATORS = (
    *(f"ReplaceComparisonOperator_{one}_{other}" for one, many in _COMPARISONS.items() for other in many),
    *(f"ReplaceBinaryOperator_{one}_{other}" for one, many in _ARITHMETIC.items() for other in many),
    *_OTHERS,
)


class Mutant(NamedTuple):
    """One mistake. Two mutants that differ in ``text`` alone have the same mistake at two places."""

    within: str  #: the function or class it is in, with dots; empty: the module itself
    old: str  #: the line as it is, without what it is indented by; more than one with line ends between
    new: str  #: and as it becomes; empty where it goes
    text: str  #: of the whole module

    @property
    def what(self) -> tuple[str, str, str]:
        """What it is known by, also after lines were put in elsewhere."""
        return self.within, self.old, self.new


def mutants(source: str) -> Iterator[Mutant]:
    """All that there are of a module's text, none twice."""
    get_operator: Any = importlib.import_module("cosmic_ray.plugins").get_operator
    mutate: Any = importlib.import_module("cosmic_ray.mutating").mutate_code
    trees: Any = importlib.import_module("cosmic_ray.ast")
    nodes = list(trees.ast_nodes(trees.get_ast(source)))
    seen = {_essence(source)}
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        for number in range(sum(len(list(operator.mutation_positions(node))) for node in nodes)):
            try:
                text = mutate(source, operator, number)
                essence = _essence(text)
            except (AttributeError, SyntaxError):  # an exception with a dot in its name; what is no Python
                continue
            if essence not in seen:
                seen.add(essence)
                yield _described(source, text)


def _described(source: str, text: str) -> Mutant:
    before, after = source.splitlines(), text.splitlines()
    changed = [
        each
        for each in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        if each[0] != "equal"
    ]
    first, last = changed[0], changed[-1]
    old, new = before[first[1] : last[2]], after[first[3] : last[4]]
    return Mutant(_within(source, first[1] + 1), _stripped(old), _stripped(new), text)


def _stripped(lines: list[str]) -> str:
    return "\n".join(line.strip() for line in lines)


def _within(source: str, line: int) -> str:
    names = []
    node: ast.AST | None = ast.parse(source)
    while node is not None:
        inside = None
        for each in ast.iter_child_nodes(node):
            if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            first = min([each.lineno, *(one.lineno for one in each.decorator_list)])
            if first <= line <= (each.end_lineno or first):
                inside = each
                names.append(each.name)
        node = inside
    return ".".join(names)


# --- what makes a difference --------------------------------------------------------------------------


class _Essence(ast.NodeTransformer):
    """A module without what only people and mypy read."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        node.decorator_list = [
            each for each in node.decorator_list if not (isinstance(each, ast.Name) and each.id == "override")
        ]
        self.generic_visit(node)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        node.annotation = ast.Constant(None)
        self.generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        node.keywords = [each for each in node.keywords if each.arg not in ("slots", "frozen")]
        self.generic_visit(node)
        return node


def _essence(text: str) -> str:
    return ast.dump(_Essence().visit(ast.parse(text)))

"""Text to syntax tree. The one module that knows the `promql-parser` library.

What the library accepts and the engine does not evaluate is refused here, so that an expression which loads is
one that is computed: there is no function that silently yields nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import promql_parser as grammar

from kernel.errors import InvalidInput, truncate
from metering.promql.syntax import (
    Absent,
    Aggregation,
    Binary,
    Expression,
    Matcher,
    Matching,
    MatchOperator,
    Negation,
    Number,
    RangeSelector,
    Selector,
    Time,
    ToVector,
    WindowCall,
)

MAX_EXPRESSION_CHARACTERS = 10_000
MAX_DEPTH = 100
WINDOW_FUNCTIONS = (
    "rate",
    "increase",
    "delta",
    "min_over_time",
    "max_over_time",
    "avg_over_time",
    "sum_over_time",
    "count_over_time",
    "last_over_time",
)
AGGREGATIONS = ("sum", "min", "max", "avg", "count")
ARITHMETIC = ("+", "-", "*", "/", "%", "^")
COMPARISONS = ("==", "!=", ">", "<", ">=", "<=")
SET_OPERATORS = ("and", "or", "unless")
OTHER_FUNCTIONS = ("absent", "time", "vector")
SUPPORTED = (
    f"functions {', '.join((*WINDOW_FUNCTIONS, *OTHER_FUNCTIONS))}; aggregations {', '.join(AGGREGATIONS)} "
    f"with by or without; operators {' '.join((*ARITHMETIC, *COMPARISONS, *SET_OPERATORS))} with bool, on, ignoring"
)
_OPERATORS = {
    "MatchOp.Equal": MatchOperator.EQUAL,
    "MatchOp.NotEqual": MatchOperator.NOT_EQUAL,
    "MatchOp.Re": MatchOperator.MATCHES,
    "MatchOp.NotRe": MatchOperator.NOT_MATCHES,
}


class _Unsupported(Exception):
    """Part of the grammar that the engine does not evaluate."""


def parse_expression(text: str, source: str = "expression", where: str = "expr") -> Expression:
    """The syntax tree of `text`.

    Raises InvalidInput with what is wrong and what is supported, for bad syntax and for what the engine does
    not evaluate alike.
    """
    if len(text) > MAX_EXPRESSION_CHARACTERS:
        raise InvalidInput.single(
            source, where, f"{len(text)} characters", f"at most {MAX_EXPRESSION_CHARACTERS} characters"
        )
    if _deepest(text) > MAX_DEPTH:
        raise InvalidInput.single(source, where, "brackets nested too deep", f"at most {MAX_DEPTH} levels")
    try:
        return _convert(grammar.parse(text), 0)
    except _Unsupported as error:
        raise InvalidInput.single(source, where, f"{error} in {truncate(text)}", SUPPORTED) from error
    except ValueError as error:
        message = f"{truncate(text)!r}: {error}"
        raise InvalidInput.single(source, where, message, "a PromQL expression") from error


def _deepest(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth -= 1
    return deepest


def _convert(node: Any, depth: int) -> Expression:
    if depth > MAX_DEPTH:
        raise _Unsupported(f"an expression nested deeper than {MAX_DEPTH} levels")
    kind = type(node).__name__
    convert = _CONVERTERS.get(kind)
    if convert is None:
        raise _Unsupported(_REFUSED.get(kind, f"a {kind}"))
    return convert(node, depth + 1)


_REFUSED = {
    "MatrixSelector": "a range vector outside a function such as rate()",
    "SubqueryExpr": "a subquery",
    "StringLiteral": "a string literal",
}


def _number(node: Any, _depth: int) -> Expression:
    return Number(float(node.val))


def _paren(node: Any, depth: int) -> Expression:
    return _convert(node.expr, depth)


def _unary(node: Any, depth: int) -> Expression:
    return Negation(_convert(node.expr, depth))


def _selector(node: Any, _depth: int) -> Selector:
    if node.at is not None:
        raise _Unsupported("the @ modifier")
    if node.matchers.or_matchers:
        raise _Unsupported("'or' between label matchers")
    matchers = [Matcher("__name__", MatchOperator.EQUAL, node.name)] if node.name else []
    matchers += [Matcher(found.name, _OPERATORS[str(found.op)], found.value) for found in node.matchers.matchers]
    return Selector(tuple(matchers), _milliseconds(node.offset) if node.offset is not None else 0)


def _milliseconds(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)


def _call(node: Any, depth: int) -> Expression:
    name = node.func.name
    if name in WINDOW_FUNCTIONS:
        return WindowCall(name, _range(name, node.args[0]))
    if name == "time":
        return Time()
    if name == "vector":
        return ToVector(_convert(node.args[0], depth))
    if name == "absent":
        operand = _convert(node.args[0], depth)
        return Absent(operand, _absent_labels(operand))
    raise _Unsupported(f"the function {name}()")


def _range(function: str, node: Any) -> RangeSelector:
    while type(node).__name__ == "ParenExpr":
        node = node.expr
    if type(node).__name__ != "MatrixSelector":
        raise _Unsupported(f"{_REFUSED.get(type(node).__name__, 'an expression')} as the argument of {function}()")
    return RangeSelector(_selector(node.vector_selector, 0), _milliseconds(node.range))


def _absent_labels(operand: Expression) -> tuple[tuple[str, str], ...]:
    """Labels that equality matchers pin, unless the name is matched twice (as Prometheus does)."""
    if not isinstance(operand, Selector):
        return ()
    names = [matcher.name for matcher in operand.matchers]
    return tuple(
        sorted(
            (matcher.name, matcher.value)
            for matcher in operand.matchers
            if matcher.operator is MatchOperator.EQUAL
            and matcher.name != "__name__"
            and matcher.value
            and names.count(matcher.name) == 1
        )
    )


def _aggregate(node: Any, depth: int) -> Expression:
    operator = str(node.op)
    if operator not in AGGREGATIONS:
        raise _Unsupported(f"the aggregation {operator}()")
    modifier = node.modifier
    labels = tuple(sorted(set(modifier.labels))) if modifier else ()
    without = modifier is not None and str(modifier.type).endswith("Without")
    return Aggregation(operator, _convert(node.expr, depth), labels, without)


def _binary(node: Any, depth: int) -> Expression:
    operator = str(node.op)
    if operator not in (*ARITHMETIC, *COMPARISONS, *SET_OPERATORS):
        raise _Unsupported(f"the operator {operator}")
    left, right = _convert(node.lhs, depth), _convert(node.rhs, depth)
    modifier = node.modifier
    if modifier is None:
        return Binary(operator, left, right)
    if "One" in str(modifier.card).partition(".")[2] and "Many" in str(modifier.card):
        raise _Unsupported("group_left and group_right")
    fill = modifier.fill_values
    if fill is not None and (fill.lhs is not None or fill.rhs is not None):
        raise _Unsupported("fill()")
    matching = Matching()
    if modifier.matching is not None:
        matching = Matching(
            on=str(modifier.matching.type).endswith("Include"), labels=tuple(sorted(set(modifier.matching.labels)))
        )
    return Binary(operator, left, right, matching, bool(modifier.return_bool))


_CONVERTERS: dict[str, Callable[[Any, int], Expression]] = {
    "NumberLiteral": _number,
    "ParenExpr": _paren,
    "UnaryExpr": _unary,
    "VectorSelector": _selector,
    "Call": _call,
    "AggregateExpr": _aggregate,
    "BinaryExpr": _binary,
}


def render_number(value: float) -> str:
    """A float as Prometheus prints a sample value: shortest form that reads back the same."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return repr(value)

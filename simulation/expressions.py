"""DynamoDB's condition and update expressions, parsed by moto and compiled to functions.

moto has the grammar, so it is a maintained one. Its own evaluation is not used: an update takes a
millisecond, and conditions do not tell a number from a text. A compiled expression is cached by its
text; the values are bound when it is evaluated. Paths lead through maps only: an index of a list
raises `NotImplementedError`. `tests/integration/test_model_as_engines.py` compares all of this
with MiniStack and DynamoDB Local.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow
from functools import lru_cache
from itertools import permutations
from typing import Any, Final

from moto.dynamodb import comparisons as conditions
from moto.dynamodb.exceptions import MockValidationException
from moto.dynamodb.parsing import ast_nodes as updates
from moto.dynamodb.parsing.expressions import UpdateExpressionParser
from moto.dynamodb.parsing.reserved_keywords import ReservedKeywords

type Value = Mapping[str, Any]  # {"N": "5"}
type Item = Mapping[str, Value]
type Values = Mapping[str, Value]  # ExpressionAttributeValues
type Names = tuple[tuple[str, str], ...]  # ExpressionAttributeNames, so that a cache can hold them
type Test = Callable[[Item, Values], bool]
type Change = Callable[[Item, Values], Item]
type Path = Sequence[str]  # an attribute, then keys of maps

type _Operand = Callable[[Item, Values], Value | None]

# A number has up to 38 digits, up to 9.9…E+125 (developer guide, "Supported data types").
_NUMBERS: Final = Context(prec=38, Emin=-130, Emax=125, traps=[Inexact, InvalidOperation, Overflow])
_PLAIN_NUMBER: Final = re.compile(r"0|-?[1-9][0-9]{0,37}")


class InvalidExpression(Exception):
    """DynamoDB would answer ValidationException."""


class Expressions:
    """The condition and the update of one request; None where it has none.

    names, values: the placeholders in both.
    """

    def __init__(self, condition: str | None, update: str | None, names: Names) -> None:
        text = f"{condition or ''} {update or ''}"
        self.names = frozenset(re.findall(r"#\w+", text))
        self.values = frozenset(re.findall(r":\w+", text))
        self.test = None if condition is None else _compiled_condition(condition, names)
        self.change = None if update is None else _compiled_update(update, dict(names))


@lru_cache(maxsize=1000)
def compiled(condition: str | None, update: str | None, names: Names) -> Expressions:
    """Return the expressions of a request. Raises InvalidExpression."""
    return Expressions(condition, update, names)


def canonical(value: Value) -> Value:
    """Return a value as the table stores it: numbers without zeros that say nothing."""
    ((type_, content),) = value.items()
    match type_:
        case "N":
            return value if _PLAIN_NUMBER.fullmatch(content) else {"N": _number(Decimal(content))}
        case "M":
            return {"M": {name: canonical(part) for name, part in content.items()}}
        case "L":
            return {"L": [canonical(part) for part in content]}
        case "NS":
            return {
                "NS": sorted({canonical({"N": number})["N"] for number in content}, key=Decimal)
            }
        case _:
            return value


def _number(value: Decimal) -> str:
    try:
        return format(_NUMBERS.plus(_NUMBERS.normalize(value)), "f")
    except DecimalException as error:
        raise InvalidExpression(f"Number with more than 38 digits: {value}") from error


def _compiled_condition(text: str, names: Names) -> Test:
    placeholders = {name: {"S": name} for name in re.findall(r":\w+", text)}
    try:
        tree = conditions.ConditionExpressionParser(text, dict(names), placeholders).parse()
    except (ValueError, KeyError, MockValidationException) as error:
        raise InvalidExpression(f"Invalid ConditionExpression: {error}") from error
    return _test(tree)


def _test(node: Any) -> Test:
    match node:
        case conditions.OpNot():
            inner = _test(node.lhs)
            return lambda item, values: not inner(item, values)
        case conditions.OpAnd():
            first, second = _test(node.lhs), _test(node.rhs)
            return lambda item, values: first(item, values) and second(item, values)
        case conditions.OpOr():
            first, second = _test(node.lhs), _test(node.rhs)
            return lambda item, values: first(item, values) or second(item, values)
        case conditions.Op():
            return _comparison(node.lhs, node.OP, node.rhs)
        case _:
            return _function(node)


def _function(node: Any) -> Test:
    match node:
        case conditions.FuncAttrExists():
            operand = _condition_operand(node.attr)
            return lambda item, values: operand(item, values) is not None
        case conditions.FuncAttrType():
            operand, wanted = _condition_operand(node.attr), _condition_operand(node.type)
            return lambda item, values: _has_type(operand(item, values), wanted(item, values))
        case conditions.FuncBeginsWith():
            return _comparison(node.attr, "begins_with", node.substr)
        case conditions.FuncBetween():
            low = _comparison(node.attr, ">=", node.start)
            high = _comparison(node.attr, "<=", node.end)
            return lambda item, values: low(item, values) and high(item, values)
        case conditions.FuncIn():
            tests = [_comparison(node.attr, "=", value) for value in node.possible_values]
            return lambda item, values: any(test(item, values) for test in tests)
        case _:
            raise NotImplementedError(f"the model does not know {type(node).__name__}")


def _comparison(left: Any, symbol: str, right: Any) -> Test:
    if repr(left) == repr(right):
        raise InvalidExpression("The first operand must be distinct from the remaining operands")
    compare, one, other = _COMPARISONS[symbol], _condition_operand(left), _condition_operand(right)
    return lambda item, values: compare(one(item, values), other(item, values))


def _condition_operand(node: Any) -> _Operand:
    match node:
        case conditions.AttributeValue(value=name):
            return lambda item, values: values[name]
        case conditions.AttributePath(path=[*path]) if all(isinstance(each, str) for each in path):
            return _attribute_operand(path)
        case conditions.FuncSize():
            operand = _condition_operand(node.attr)
            return lambda item, values: _size(operand(item, values))
        case _:
            raise NotImplementedError(f"the model does not know {node}")


def _attribute_operand(path: Path) -> _Operand:
    if len(path) == 1:
        (name,) = path
        return lambda item, values: item.get(name)
    return lambda item, values: _found(item, path)


def _found(item: Item, path: Path) -> Value | None:
    """Return the value at a path; None where there is none."""
    value = item.get(path[0])
    for name in path[1:]:
        value = value["M"].get(name) if value is not None and "M" in value else None
    return value


def _size(value: Value | None) -> Value | None:
    """Return how many values a map, list or set has, or characters a text.

    None, which compares with nothing, of anything else.
    """
    if value is None:
        return None
    ((type_, content),) = value.items()
    return {"N": str(len(content))} if type_ in {"M", "L", "NS", "S"} else None


def _equal(left: Value | None, right: Value | None) -> bool:
    """Compare for equality. What is missing equals nothing."""
    if left is None or right is None:
        return False
    return left == right or canonical(left) == canonical(right)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Value | None, Value | None], bool]:
    def ordered(left: Value | None, right: Value | None) -> bool:
        if left is None or right is None:
            return False
        if "N" in left and "N" in right:
            one, other = left["N"], right["N"]
            if _PLAIN_NUMBER.fullmatch(one) and _PLAIN_NUMBER.fullmatch(other):
                return compare(int(one), int(other))
            return compare(Decimal(one), Decimal(other))
        # Texts are ordered by their bytes in UTF-8.
        return "S" in left and "S" in right and compare(left["S"].encode(), right["S"].encode())

    return ordered


def _begins_with(text: Value | None, prefix: Value | None) -> bool:
    if text is None or prefix is None or "S" not in text or "S" not in prefix:
        return False
    begins: bool = text["S"].startswith(prefix["S"])
    return begins


def _has_type(value: Value | None, wanted: Value | None) -> bool:
    return value is not None and wanted is not None and wanted["S"] in value


_COMPARISONS: Final[Mapping[str, Callable[[Value | None, Value | None], bool]]] = {
    "=": _equal,
    "<>": lambda left, right: not _equal(left, right),
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
    "begins_with": _begins_with,
}

_ACTIONS: Final = (
    updates.UpdateExpressionSetAction,
    updates.UpdateExpressionRemoveAction,
    updates.UpdateExpressionAddAction,
    updates.UpdateExpressionDeleteAction,
)


def _compiled_update(text: str, names: Mapping[str, str]) -> Change:
    """Return the function from the item before to the item after. It reads only the item before."""
    try:
        actions = list(_actions(UpdateExpressionParser.make(text)))
    except MockValidationException as error:
        raise InvalidExpression(f"Invalid UpdateExpression: {error}") from error
    operands = [
        (path, _action_operand(action, path, names))
        for action in actions
        for path in [_path(action.children[0], names)]
    ]
    paths = [path for path, _ in operands]
    if any(one == other[: len(one)] for one, other in permutations(paths, 2)):
        raise InvalidExpression("Two document paths overlap with each other")

    def change(item: Item, values: Values) -> Item:
        new = dict(item)
        for path, operand in operands:
            value = None
            if operand is not None:
                value = operand(item, values)
                if value is None:
                    raise InvalidExpression("The expression refers to an attribute that is missing")
                value = canonical(value)
            # A set without members is removed.
            _put(new, path, None if value == {"NS": []} else value)
        return new

    return change


def _put(item: dict[str, Value], path: Path, value: Value | None) -> None:
    """Set the value at a path; None removes it. The maps on the way are replaced by copies."""
    for name in path[:-1]:
        inner = item.get(name)
        if inner is None or "M" not in inner:
            raise InvalidExpression("The document path provided in the update is not valid")
        copied = dict(inner["M"])
        item[name] = {"M": copied}
        item = copied
    if value is None:
        item.pop(path[-1], None)
    else:
        item[path[-1]] = value


def _action_operand(action: Any, path: Path, names: Mapping[str, str]) -> _Operand | None:
    """Return the attribute's new value; None where the action removes it."""
    match action:
        case updates.UpdateExpressionRemoveAction():
            return None
        case updates.UpdateExpressionSetAction():
            return _update_operand(action.children[1], names)
        case updates.UpdateExpressionAddAction():
            before, operand = _attribute_operand(path), _update_operand(action.children[1], names)
            return lambda item, values: _added(before(item, values), operand(item, values))
        case updates.UpdateExpressionDeleteAction():
            before, operand = _attribute_operand(path), _update_operand(action.children[1], names)
            return lambda item, values: _without(before(item, values), operand(item, values))
        case _:
            raise AssertionError(f"no case for {type(action).__name__}")


def _actions(node: Any) -> Iterator[Any]:
    if type(node) in _ACTIONS:
        yield node
        return
    for child in getattr(node, "children", ()):
        yield from _actions(child)


def _path(node: Any, names: Mapping[str, str]) -> Path:
    return tuple(
        _name(part, names)
        for part in node.children
        if not isinstance(part, updates.ExpressionPathDescender)
    )


def _name(part: Any, names: Mapping[str, str]) -> str:
    match part:
        case updates.ExpressionAttributeName():
            placeholder = part.get_attribute_name_placeholder()
            if placeholder not in names:
                raise InvalidExpression(f"The attribute name {placeholder} is not defined")
            return names[placeholder]
        case updates.ExpressionAttribute():
            name: str = part.get_attribute_name()
            if name.upper() in ReservedKeywords.get_reserved_keywords():
                raise InvalidExpression(f"Attribute name is a reserved keyword: {name}")
            return name
        case _:
            raise NotImplementedError("the model does not know an index of a list")


def _update_operand(node: Any, names: Mapping[str, str]) -> _Operand:
    match node:
        case updates.ExpressionAttributeValue():
            placeholder = node.get_value_name()
            return lambda item, values: values[placeholder]
        case updates.UpdateExpressionPath():
            return _attribute_operand(_path(node, names))
        case updates.UpdateExpressionFunction() if node.get_function_name() == "if_not_exists":
            first = _update_operand(node.get_nth_argument(1), names)
            second = _update_operand(node.get_nth_argument(2), names)
            return lambda item, values: first(item, values) or second(item, values)
        case updates.UpdateExpressionValue(children=[_]):
            return _update_operand(node.children[0], names)
        case updates.UpdateExpressionValue(children=[one, sign, other]):
            left, right = _update_operand(one, names), _update_operand(other, names)
            factor = 1 if sign.get_operator() == "+" else -1
            return lambda item, values: _sum(left(item, values), right(item, values), factor)
        case _:
            raise NotImplementedError(f"the model does not know {type(node).__name__}")


def _added(before: Value | None, more: Value | None) -> Value:
    """Return a number with another one added, or a set of numbers with those of another one."""
    if more is not None and "NS" in more:
        if before is not None and "NS" not in before:
            raise InvalidExpression(
                "An operand in the update expression has an incorrect data type"
            )
        return {"NS": [*(before or {"NS": []})["NS"], *more["NS"]]}
    return _sum(before or {"N": "0"}, more, 1)


def _without(before: Value | None, less: Value | None) -> Value:
    """Return a set of numbers without those of another one. A missing one has none."""
    if less is None or "NS" not in less or (before is not None and "NS" not in before):
        raise InvalidExpression("An operand in the update expression has an incorrect data type")
    return {"NS": [one for one in (before or {"NS": []})["NS"] if one not in less["NS"]]}


def _sum(left: Value | None, right: Value | None, factor: int) -> Value:
    """Return left + factor * right."""
    if left is None or right is None:
        raise InvalidExpression("The expression refers to an attribute that is missing")
    if "N" not in left or "N" not in right:
        raise InvalidExpression("An operand in the update expression has an incorrect data type")
    one, other = left["N"], right["N"]
    if _PLAIN_NUMBER.fullmatch(one) and _PLAIN_NUMBER.fullmatch(other):
        total = int(one) + factor * int(other)
        if abs(total) < 10**38:
            return {"N": str(total)}
    try:
        return {"N": _number(_NUMBERS.add(Decimal(one), factor * Decimal(other)))}
    except DecimalException as error:
        raise InvalidExpression("Number with more than 38 digits") from error

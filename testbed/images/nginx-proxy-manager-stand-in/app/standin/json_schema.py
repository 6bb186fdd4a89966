"""Validates request bodies the way upstream's validator does: all errors, its wording, and types coerced in place.

A general JSON schema package words its errors differently and does not coerce; both are visible to clients.
Only the keywords that occur in the request schemas are known; `format` is ignored, as upstream ignores it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .errors import invalid

Schema = dict[str, Any]
_ABSENT = object()


def validate(schema: Schema, body: Any) -> Any:
    """Return `body` with its values coerced; raise a 400 that lists every violation."""
    problems: list[str] = []
    body = _check(schema, body, "data", problems)
    if problems:
        raise invalid(", ".join(problems))
    return body


def _check(schema: Schema, value: Any, where: str, problems: list[str]) -> Any:
    # A wrong type is reported beside the other violations, not instead of them.
    if "type" in schema:
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        coerced = _coerce(types, value)
        if coerced is _ABSENT:
            problems.append(f"{where} must be {','.join(types)}")
        else:
            value = coerced
    if "enum" in schema and value not in schema["enum"]:
        problems.append(f"{where} must be equal to one of the allowed values")
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            value = _check_alternatives(keyword, schema[keyword], value, where, problems)
    if isinstance(value, str):
        _check_string(schema, value, where, problems)
    elif isinstance(value, list):
        _check_array(schema, value, where, problems)
    elif isinstance(value, dict):
        _check_object(schema, value, where, problems)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(schema, value, where, problems)
    return value


def _check_number(schema: Schema, value: float, where: str, problems: list[str]) -> None:
    if "maximum" in schema and value > schema["maximum"]:
        problems.append(f"{where} must be <= {schema['maximum']}")
    if "minimum" in schema and value < schema["minimum"]:
        problems.append(f"{where} must be >= {schema['minimum']}")


def _check_string(schema: Schema, value: str, where: str, problems: list[str]) -> None:
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        problems.append(f"{where} must NOT have more than {schema['maxLength']} characters")
    if "minLength" in schema and len(value) < schema["minLength"]:
        problems.append(f"{where} must NOT have fewer than {schema['minLength']} characters")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        problems.append(f'{where} must match pattern "{schema["pattern"]}"')


def _check_alternatives(keyword: str, schemas: list[Schema], value: Any, where: str, problems: list[str]) -> Any:
    # Every branch is tried, and each may coerce: a certificate_id of 0 leaves here as "0", which is true in JavaScript.
    # That is why upstream keeps ssl_forced beside certificate_id 0 but not beside a missing certificate_id.
    matched = 0
    found: list[str] = []
    for schema in schemas:
        branch: list[str] = []
        value = _check(schema, value, where, branch)
        matched += not branch
        found += branch
    if keyword == "anyOf" and not matched:
        problems += [*found, f"{where} must match a schema in anyOf"]
    elif keyword == "oneOf" and matched != 1:
        problems += [*([] if matched else found), f"{where} must match exactly one schema in oneOf"]
    return value


def _check_array(schema: Schema, value: list[Any], where: str, problems: list[str]) -> None:
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        problems.append(f"{where} must NOT have more than {schema['maxItems']} items")
    if "minItems" in schema and len(value) < schema["minItems"]:
        problems.append(f"{where} must NOT have fewer than {schema['minItems']} items")
    if "items" in schema:
        for index, item in enumerate(value):
            value[index] = _check(schema["items"], item, f"{where}/{index}", problems)
    if schema.get("uniqueItems"):
        seen: dict[str, int] = {}
        for index in reversed(range(len(value))):
            item = value[index]
            if not isinstance(item, str):
                continue
            if item in seen:
                pair = f"## {seen[item]} and {index}"
                problems.append(f"{where} must NOT have duplicate items (items {pair} are identical)")
                break
            seen[item] = index


def _check_object(schema: Schema, value: dict[str, Any], where: str, problems: list[str]) -> None:
    if "minProperties" in schema and len(value) < schema["minProperties"]:
        problems.append(f"{where} must NOT have fewer than {schema['minProperties']} properties")
    for name in schema.get("required", []):
        if name not in value:
            problems.append(f"{where} must have required property '{name}'")
    properties = schema.get("properties", {})
    if schema.get("additionalProperties") is False:
        problems += [f"{where} must NOT have additional properties" for name in value if name not in properties]
    for name, inner in properties.items():
        if name in value:
            value[name] = _check(inner, value[name], f"{where}/{name}", problems)


def _coerce(types: list[str], value: Any) -> Any:
    for name in types:
        if _IS[name](value):
            return value
    for name in types:
        coerced = _TO[name](value) if name in _TO else _ABSENT
        if coerced is not _ABSENT:
            return coerced
    return _ABSENT


def _to_number(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return int(bool(value))
    if isinstance(value, str) and value.strip() and value.isascii():
        try:
            number = float(value)
        except ValueError:
            return _ABSENT
        return int(number) if number.is_integer() else number
    return _ABSENT


def _to_integer(value: Any) -> Any:
    number = _to_number(value)
    return number if isinstance(number, int) else _ABSENT


def _to_boolean(value: Any) -> Any:
    if value is None or value in ("false", 0):
        return False
    return True if value in ("true", 1) else _ABSENT


def _to_string(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else _ABSENT


def _to_null(value: Any) -> Any:
    return None if value in ("", 0, False) else _ABSENT


_IS: dict[str, Callable[[Any], bool]] = {
    "array": lambda v: isinstance(v, list),
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: not isinstance(v, bool) and (isinstance(v, int) or (isinstance(v, float) and v.is_integer())),
    "null": lambda v: v is None,
    "number": lambda v: not isinstance(v, bool) and isinstance(v, int | float),
    "object": lambda v: isinstance(v, dict),
    "string": lambda v: isinstance(v, str),
}
_TO: dict[str, Callable[[Any], Any]] = {
    "boolean": _to_boolean,
    "integer": _to_integer,
    "null": _to_null,
    "number": _to_number,
    "string": _to_string,
}

"""Canonical JSON (RFC 8785), the form of everything that a card signs.

Only objects, arrays, texts, booleans, null and integers up to 2^53 - 1 in magnitude: no fractions, so that every
implementation prints the same number. Decoding accepts exactly what encoding writes; duplicate members, other orders,
other spellings of a text and surrounding white space are refused.
"""

from __future__ import annotations

import json
from typing import Any, Final

import rfc8785

from crypto_core import limits
from crypto_core.errors import LimitExceeded, Malformed

_INT_MAX: Final = 2**53 - 1
_DEPTH: Final = 8  #: nested objects and arrays in one document


def encode(value: Any) -> bytes:
    """The canonical form, UTF-8. Raises Malformed for what has none here."""
    _check(value, _DEPTH)
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise Malformed("no canonical JSON form") from error


def decode(data: bytes, max_bytes: int = limits.DOCUMENT_BYTES) -> Any:
    """The value whose canonical form is `data`. Raises Malformed, or LimitExceeded over `max_bytes` (bytes)."""
    if len(data) > max_bytes:
        raise LimitExceeded(f"document of {len(data)} bytes, over the limit of {max_bytes}")
    try:
        value = json.loads(data.decode("utf-8"), parse_float=_refuse_number, parse_constant=_refuse_number)
    except (ValueError, RecursionError) as error:
        raise Malformed("not JSON") from error
    # Duplicate members vanish in decoding, so they too fail this comparison.
    if encode(value) != data:
        raise Malformed("not canonical JSON (RFC 8785)")
    return value


def _refuse_number(text: str) -> Any:
    raise ValueError(f"only integers are used, not {text:.20}")


def _check(value: Any, depth: int) -> None:
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return
    if kind is int:
        if abs(value) > _INT_MAX:
            raise Malformed("an integer of more than 53 bits")
        return
    if depth == 0:
        raise LimitExceeded(f"more than {_DEPTH} nested JSON containers")
    if kind is list:
        for item in value:
            _check(item, depth - 1)
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise Malformed("a JSON member name that is not a text")
            _check(item, depth - 1)
    else:
        raise Malformed(f"a value of type {kind.__name__} has no place in a document")

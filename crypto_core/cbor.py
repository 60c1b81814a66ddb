"""Deterministic CBOR (RFC 8949 section 4.2.1), and nothing else.

Encoding sorts map keys bytewise by their encoded form; the library's own canonical mode sorts by length first (RFC
7049), so it is not used. Decoding accepts exactly what encoding could have written: the input must encode back to the
same bytes. That one comparison refuses long forms, indefinite lengths, unsorted and duplicate keys and trailing bytes.

Values are integers of 64 bits, byte strings, text strings, arrays, maps with integer or text keys, booleans and the
COSE tags. No floats, no null, no other tags, no other simple values: every value has one form only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

import cbor2

from crypto_core import limits
from crypto_core.errors import LimitExceeded, Malformed

Value = int | bytes | str | bool | list[Any] | dict[Any, Any] | cbor2.CBORTag

_INT_MIN: Final = -(2**64)
_INT_MAX: Final = 2**64 - 1
#: COSE_Encrypt0, COSE_Sign1, COSE_Encrypt (RFC 9052 section 2)
_TAGS: Final = frozenset({16, 18, 96})


def encode(value: Any) -> bytes:
    """The one encoding of `value`. Raises Malformed for values outside of the profile."""
    return cbor2.dumps(_ordered(value, limits.CBOR_DEPTH))


def decode(data: bytes, max_bytes: int = limits.ENVELOPE_BYTES) -> Any:
    """The value whose encoding is `data`. Raises Malformed, or LimitExceeded over `max_bytes` (bytes)."""
    if len(data) > max_bytes:
        raise LimitExceeded(f"object of {len(data)} bytes, over the limit of {max_bytes}")
    try:
        value = cbor2.loads(
            data,
            max_depth=limits.CBOR_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            semantic_decoders=_REFUSE_TAGS,
        )
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise Malformed("not well-formed CBOR") from error
    ordered = _ordered(value, limits.CBOR_DEPTH)
    if cbor2.dumps(ordered) != data:
        raise Malformed("not deterministic CBOR, or bytes after its end")
    return ordered


def _refuse(*_: object) -> Any:
    raise Malformed("a CBOR tag that this protocol does not use")


#: Tags that the library would turn into dates, numbers, patterns or references before anything could be checked.
_FOREIGN_TAGS: Final = frozenset(range(64)) - _TAGS | {100, 256, 258, 260, 261, 1004, 43000, 55799}
_REFUSE_TAGS: Final[dict[int, Callable[..., Any]]] = dict.fromkeys(_FOREIGN_TAGS, _refuse)


def _ordered(value: Any, depth: int) -> Any:
    """A copy of `value` whose maps are in bytewise order of their encoded keys; refuses what is not of the profile."""
    kind = type(value)
    if kind is bytes or kind is bool:
        return value
    if kind is int:
        if not _INT_MIN <= value <= _INT_MAX:
            raise Malformed("an integer of more than 64 bits")
        return value
    if kind is str:
        return _text(value)
    if depth == 0:
        raise LimitExceeded(f"more than {limits.CBOR_DEPTH} nested containers")
    # Inside of tags the library gives immutable containers: tuples and mappings that are no dict.
    if kind is list or kind is tuple:
        return [_ordered(item, depth - 1) for item in value]
    if isinstance(value, Mapping):
        return _ordered_map(value, depth - 1)
    if kind is cbor2.CBORTag and value.tag in _TAGS:
        return cbor2.CBORTag(value.tag, _ordered(value.value, depth))
    raise Malformed(f"a value of type {kind.__name__} has no place in this protocol")


def _ordered_map(value: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
    keys = []
    for key in value:
        if type(key) is not int and type(key) is not str:
            raise Malformed("a map key that is neither an integer nor a text")
        keys.append((_encoded_key(key), key))
    keys.sort(key=lambda pair: pair[0])
    return {key: _ordered(value[key], depth) for _, key in keys}


# Bounded, and filled with whatever names strangers choose: it can be emptied by them, never made wrong.
@functools.lru_cache(maxsize=512, typed=True)
def _encoded_key(key: int | str) -> bytes:
    return cbor2.dumps(_ordered(key, 1))


def _text(value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Malformed("a text with a lone surrogate") from error
    return value

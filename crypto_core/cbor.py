"""Deterministic CBOR (RFC 8949 section 4.2.1), and nothing else.

Encoding sorts map keys bytewise by their encoded form; the library's own canonical mode sorts by length first (RFC
7049), so it is not used. Decoding accepts exactly what encoding could have written: the input must encode back to the
same bytes. That one comparison refuses long forms, indefinite lengths, unsorted and duplicate keys and trailing bytes.

Values are integers of 64 bits, byte strings, text strings, arrays, maps with integer or text keys, booleans and the
COSE tags. No floats, no null, no other tags, no other simple values: every value has one form only.

Every message passes here a dozen times, so a tree that is in order already is not copied: a walk over it refuses what
is not of the profile, and the library writes it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final

import cbor2

from crypto_core import limits
from crypto_core.errors import LimitExceeded, Malformed

Value = int | bytes | str | bool | list[Any] | dict[Any, Any] | cbor2.CBORTag

_INT_MIN: Final = -(2**64)
_INT_MAX: Final = 2**64 - 1
#: Types of scalars that need no further look, and of the keys of maps.
_PLAIN: Final = frozenset({bytes, bool, str})
_KEYS: Final = frozenset({int, str})
#: Which keys one after the other are in order: the same few maps come again and again. Bounded by their number and by
#: what their keys take when encoded (bytes), and emptied when it is full: names that strangers choose come here too.
_ORDERS: Final[dict[tuple[int | str, ...], bool]] = {}
_REMEMBERED: Final = 512
_REMEMBERED_BYTES: Final = 512
#: COSE_Encrypt0, COSE_Sign1, COSE_Encrypt (RFC 9052 section 2)
_TAGS: Final = frozenset({16, 18, 96})
#: … and how each begins on the wire (section 3.4).
_TAG_STARTS: Final = ((b"\xd2", 18), (b"\xd0", 16), (b"\xd8\x60", 96))


def encode(value: Any) -> bytes:
    """The one encoding of `value`. Raises Malformed for values outside of the profile."""
    try:
        return cbor2.dumps(_in_order(value))
    except UnicodeEncodeError as error:
        raise Malformed("a text with a lone surrogate") from error


def decode(data: bytes, max_bytes: int = limits.ENVELOPE_BYTES) -> Any:
    """The value whose encoding is `data`. Raises Malformed, or LimitExceeded over `max_bytes` (bytes)."""
    if len(data) > max_bytes:
        raise LimitExceeded(f"object of {len(data)} bytes, over the limit of {max_bytes}")
    # Inside of tags the library gives immutable containers: the tag of a whole message is taken off before it is asked.
    for start, tag in _TAG_STARTS:
        if data.startswith(start):
            return cbor2.CBORTag(tag, _decode(data[len(start) :]))
    return _decode(data)


def _decode(data: bytes) -> Any:
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
    ordered = _in_order(value)
    if cbor2.dumps(ordered) != data:
        raise Malformed("not deterministic CBOR, or bytes after its end")
    return ordered


_TOO_DEEP: Final = f"more than {limits.CBOR_DEPTH} nested containers"
_TOO_LONG: Final = "an integer of more than 64 bits"


def _refuse(*_: object) -> Any:
    raise Malformed("a CBOR tag that this protocol does not use")


#: Tags that the library would turn into dates, numbers, patterns or references before anything could be checked.
_FOREIGN_TAGS: Final = frozenset(range(64)) - _TAGS | {100, 256, 258, 260, 261, 1004, 43000, 55799}
_REFUSE_TAGS: Final[dict[int, Callable[..., Any]]] = dict.fromkeys(_FOREIGN_TAGS, _refuse)


def _in_order(value: Any) -> Any:
    """`value` with its maps in bytewise order of their encoded keys; refuses what is not of the profile."""
    return value if _is_in_order(value, limits.CBOR_DEPTH) else _ordered(value, limits.CBOR_DEPTH)


def _is_in_order(value: Any, depth: int) -> bool:
    """Whether `_ordered` would copy `value` as it is; refuses what it refuses, and leaves texts to whoever writes them.

    One call for each container: what is none is looked at in its loop, since most of what is encoded is small.
    """
    kind = type(value)
    if kind is list:
        items = value
    elif kind is dict:
        if not _are_in_order(tuple(value)):
            return False
        items = value.values()
    elif kind is cbor2.CBORTag and value.tag in _TAGS:
        return _is_in_order(value.value, depth)
    else:
        return _is_plain(value)
    if depth == 0:
        raise LimitExceeded(_TOO_DEEP)
    for item in items:
        kind = type(item)
        if kind is int:
            if not _INT_MIN <= item <= _INT_MAX:
                raise Malformed(_TOO_LONG)
        elif kind not in _PLAIN and not _is_in_order(item, depth - 1):
            return False
    return True


def _is_plain(value: Any) -> bool:
    """Whether it is a scalar of the profile."""
    if type(value) is int and not _INT_MIN <= value <= _INT_MAX:
        raise Malformed(_TOO_LONG)
    return type(value) is int or type(value) in _PLAIN


def _are_in_order(keys: tuple[Any, ...]) -> bool:
    """Whether a map with these keys, in this order, is in order. Raises Malformed for what is no key."""
    if not _KEYS.issuperset(map(type, keys)):
        raise Malformed("a map key that is neither an integer nor a text")
    known = _ORDERS.get(keys)
    return _order(keys) if known is None else known


def _order(keys: tuple[Any, ...]) -> bool:
    """As `_are_in_order`, worked out, and remembered as far as strangers can not fill the memory with it."""
    encoded = [_key(key) for key in keys]
    ordered = all(before < after for before, after in pairwise(encoded))
    if sum(map(len, encoded)) <= _REMEMBERED_BYTES:
        if len(_ORDERS) >= _REMEMBERED:
            _ORDERS.clear()
        _ORDERS[keys] = ordered
    return ordered


def _ordered(value: Any, depth: int) -> Any:
    """A copy of `value` in order, of plain containers; refuses what is not of the profile."""
    # Inside of tags the library gives immutable containers: tuples and mappings that are no dict.
    kind = type(value)
    is_map = isinstance(value, Mapping)
    if is_map or kind is list or kind is tuple:
        if depth == 0:
            raise LimitExceeded(_TOO_DEEP)
        if is_map:
            return {key: _ordered(value[key], depth - 1) for key in sorted(value, key=_key)}
        return [_ordered(item, depth - 1) for item in value]
    if kind is cbor2.CBORTag and value.tag in _TAGS:
        return cbor2.CBORTag(value.tag, _ordered(value.value, depth))
    if not _is_plain(value):
        raise Malformed(f"a value of type {kind.__name__} has no place in this protocol")
    return value


def _key(key: Any) -> bytes:
    if type(key) not in _KEYS:
        raise Malformed("a map key that is neither an integer nor a text")
    return encode(key)

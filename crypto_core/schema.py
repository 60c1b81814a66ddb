"""Typed values to and from maps: one declaration says the type, the bounds and the name of each field.

A frozen dataclass whose fields are annotated is a schema:

    @dataclass(frozen=True, slots=True)
    class Recv:
        letter: LetterIdField

`to_map` and `from_map` are for CBOR (bytes stay bytes, an absent optional field is absent in the map). `to_document`
and `from_document` are for JSON (bytes are lower-case hex, an absent optional field is null). A trailing underscore,
where Python reserves the word, is not part of the name on the wire. Unknown, missing and mistyped fields are refused.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from crypto_core import moments
from crypto_core.errors import LimitExceeded, Malformed

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """Bounds of a byte string in bytes, of a text in UTF-8 bytes, of a list in items; both ends are allowed."""

    low: int
    high: int


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """Bounds of an integer; both ends are allowed."""

    low: int
    high: int


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """Marks milliseconds since the Unix epoch, which a JSON document shows as a text (see `moments`)."""


def to_map(value: Any) -> dict[str, Any]:
    """The CBOR map of a schema value. Raises Malformed or LimitExceeded if a field is out of its bounds."""
    return _encode(value, _Codec(as_document=False))


def from_map(cls: type[T], data: Any) -> T:
    """The schema value of a decoded CBOR map. Raises Malformed or LimitExceeded."""
    return _decode(cls, data, _Codec(as_document=False))


def to_document(value: Any) -> dict[str, Any]:
    """The JSON object of a schema value. Raises Malformed or LimitExceeded if a field is out of its bounds."""
    return _encode(value, _Codec(as_document=True))


def from_document(cls: type[T], data: Any) -> T:
    """The schema value of a decoded JSON object. Raises Malformed or LimitExceeded."""
    return _decode(cls, data, _Codec(as_document=True))


@dataclasses.dataclass(frozen=True, slots=True)
class _Codec:
    as_document: bool

    def write_bytes(self, value: bytes) -> Any:
        return value.hex() if self.as_document else value

    def write_moment(self, value: int) -> Any:
        return moments.to_text(value) if self.as_document else value

    def read_moment(self, value: Any, where: str) -> Any:
        if not self.as_document:
            return _typed(value, int, where)
        return moments.from_text(_typed(value, str, where))

    def read_bytes(self, value: Any, where: str) -> Any:
        if not self.as_document:
            return _typed(value, bytes, where)
        text = _typed(value, str, where)
        try:
            data = bytes.fromhex(text)
        except ValueError as error:
            raise Malformed(f"{where}: not hexadecimal") from error
        if data.hex() != text:
            raise Malformed(f"{where}: not lower-case hexadecimal")
        return data


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    attribute: str
    name: str
    annotation: Any
    optional: bool


@functools.cache
def _fields(cls: Any) -> tuple[_Field, ...]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple(_field(field.name, hints[field.name]) for field in dataclasses.fields(cls))


def _field(attribute: str, annotation: Any) -> _Field:
    optional = False
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (annotation,) = [part for part in typing.get_args(annotation) if part is not type(None)]
        optional = True
    return _Field(attribute, attribute.rstrip("_"), annotation, optional)


def _encode(value: Any, codec: _Codec) -> dict[str, Any]:
    result: dict[str, Any] = {}
    kind: Any = type(value)
    for field in _fields(kind):
        item = getattr(value, field.attribute)
        where = f"{kind.__name__}.{field.name}"
        if item is not None:
            result[field.name] = _write(field.annotation, item, where, codec)
        elif not field.optional:
            raise Malformed(f"{where}: missing")
        elif codec.as_document:
            result[field.name] = None
    return result


def _decode(cls: type[T], data: Any, codec: _Codec) -> T:
    if type(data) is not dict:
        raise Malformed(f"{cls.__name__}: not a map")
    fields = _fields(typing.cast(Any, cls))
    unknown = data.keys() - {field.name for field in fields}
    if unknown:
        raise Malformed(f"{cls.__name__}: unknown field {min(map(str, unknown))!r:.60}")
    values: dict[str, Any] = {}
    for field in fields:
        where = f"{cls.__name__}.{field.name}"
        item = data.get(field.name)
        if item is not None:
            values[field.attribute] = _read(field.annotation, item, where, codec)
        elif field.optional and (not codec.as_document or field.name in data):
            values[field.attribute] = None
        else:
            raise Malformed(f"{where}: missing")
    return cls(**values)


@functools.cache
def _plain(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The plain type behind Annotated and NewType, and the bounds that were attached to it."""
    bounds: tuple[Any, ...] = ()
    if typing.get_origin(annotation) is typing.Annotated:
        annotation, *extra = typing.get_args(annotation)
        bounds = tuple(extra)
    while hasattr(annotation, "__supertype__"):
        annotation = annotation.__supertype__
    return annotation, bounds


def _write(annotation: Any, value: Any, where: str, codec: _Codec) -> Any:
    kind, bounds = _plain(annotation)
    if typing.get_origin(kind) is tuple:
        _check_bounds(len(value), bounds, where)
        inner = typing.get_args(kind)[0]
        return [_write(inner, item, where, codec) for item in value]
    if dataclasses.is_dataclass(kind):
        return _encode(_typed(value, typing.cast(type[Any], kind), where), codec)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _typed(value, kind, where).value
    _check_scalar(_typed(value, kind, where), bounds, where)
    if kind is bytes:
        return codec.write_bytes(value)
    return codec.write_moment(value) if Moment() in bounds else value


def _read(annotation: Any, value: Any, where: str, codec: _Codec) -> Any:
    kind, bounds = _plain(annotation)
    if typing.get_origin(kind) is tuple:
        items = _typed(value, list, where)
        _check_bounds(len(items), bounds, where)
        inner = typing.get_args(kind)[0]
        return tuple(_read(inner, item, where, codec) for item in items)
    if dataclasses.is_dataclass(kind):
        return _decode(typing.cast(type[Any], kind), value, codec)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _read_enum(kind, value, where)
    result: Any
    if kind is bytes:
        result = codec.read_bytes(value, where)
    elif Moment() in bounds:
        result = codec.read_moment(value, where)
    else:
        result = _typed(value, kind, where)
    _check_scalar(result, bounds, where)
    return result


def _read_enum(kind: type[enum.Enum], value: Any, where: str) -> enum.Enum:
    if type(value) not in (str, int):
        raise Malformed(f"{where}: not a {kind.__name__}")
    try:
        return kind(value)
    except ValueError as error:
        raise Malformed(f"{where}: unknown {kind.__name__}") from error


def _typed(value: Any, kind: type[T] | Callable[..., Any], where: str) -> Any:
    # Exact types: a bool is not an integer here, and a subclass has no place on the wire.
    if type(value) is not kind:
        raise Malformed(f"{where}: a value of type {type(value).__name__}")
    return value


def _check_scalar(value: Any, bounds: tuple[Any, ...], where: str) -> None:
    if type(value) is bytes:
        _check_bounds(len(value), bounds, where)
    elif type(value) is str:
        try:
            _check_bounds(len(value.encode("utf-8")), bounds, where)
        except UnicodeEncodeError as error:
            raise Malformed(f"{where}: a lone surrogate") from error
    elif type(value) is int:
        for bound in bounds:
            if isinstance(bound, Range) and not bound.low <= value <= bound.high:
                raise LimitExceeded(f"{where}: outside of {bound.low} to {bound.high}")


def _check_bounds(size: int, bounds: tuple[Any, ...], where: str) -> None:
    for bound in bounds:
        if size > bound.high:
            raise LimitExceeded(f"{where}: {size} over the limit of {bound.high}")
        if size < bound.low:
            raise Malformed(f"{where}: {size} under the minimum of {bound.low}")

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
    return _form(type(value), False).write(value)


def from_map(cls: type[T], data: Any) -> T:
    """The schema value of a decoded CBOR map. Raises Malformed or LimitExceeded."""
    return typing.cast(T, _form(cls, False).read(data))


def to_document(value: Any) -> dict[str, Any]:
    """The JSON object of a schema value. Raises Malformed or LimitExceeded if a field is out of its bounds."""
    return _form(type(value), True).write(value)


def from_document(cls: type[T], data: Any) -> T:
    """The schema value of a decoded JSON object. Raises Malformed or LimitExceeded."""
    return typing.cast(T, _form(cls, True).read(data))


#: Checks one value and gives its other form.
_Convert = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    """One field, with everything that its annotation says worked out once."""

    attribute: str
    name: str
    where: str
    optional: bool
    write: _Convert
    read: _Convert


@dataclasses.dataclass(frozen=True, slots=True)
class _Form:
    """A schema class on one of its two wires."""

    cls: type[Any]
    as_document: bool
    fields: tuple[_Field, ...]
    names: frozenset[str]

    def write(self, value: Any) -> dict[str, Any]:
        """The map or object of a value of this class."""
        result: dict[str, Any] = {}
        for field in self.fields:
            item = getattr(value, field.attribute)
            if item is not None:
                result[field.name] = field.write(item)
            elif not field.optional:
                raise Malformed(f"{field.where}: missing")
            elif self.as_document:
                result[field.name] = None
        return result

    def read(self, data: Any) -> Any:
        """The value of a decoded map or object."""
        if type(data) is not dict:
            raise Malformed(f"{self.cls.__name__}: not a map")
        if not data.keys() <= self.names:
            raise Malformed(f"{self.cls.__name__}: unknown field {min(map(str, data.keys() - self.names))!r:.60}")
        values: dict[str, Any] = {}
        for field in self.fields:
            item = data.get(field.name)
            if item is not None:
                values[field.attribute] = field.read(item)
            elif field.optional and (not self.as_document or field.name in data):
                values[field.attribute] = None
            else:
                raise Malformed(f"{field.where}: missing")
        return self.cls(**values)


def _make_form(cls: Any, as_document: bool) -> _Form:
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = [
        _field(cls.__name__, field.name, hints[field.name], as_document=as_document)
        for field in dataclasses.fields(cls)
    ]
    # In the order of deterministic CBOR (RFC 8949 section 4.2.1), so that nothing has to be sorted when it is encoded.
    fields.sort(key=lambda field: (len(field.name), field.name))
    return _Form(cls, as_document, tuple(fields), frozenset(field.name for field in fields))


#: Of a class, for JSON documents (True) or CBOR maps (False); made at its first use.
_form: Callable[[Any, bool], _Form] = functools.cache(_make_form)


def _field(cls: str, attribute: str, annotation: Any, *, as_document: bool) -> _Field:
    optional = False
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (annotation,) = [part for part in typing.get_args(annotation) if part is not type(None)]
        optional = True
    name = attribute.rstrip("_")
    where = f"{cls}.{name}"
    write, read = _converters(annotation, where, as_document=as_document)
    return _Field(attribute, name, where, optional, write, read)


def _converters(annotation: Any, where: str, *, as_document: bool) -> tuple[_Convert, _Convert]:
    """How a value of this annotation is written and read."""
    kind, bounds = _plain(annotation)
    if typing.get_origin(kind) is tuple:
        return _of_tuple(typing.get_args(kind)[0], bounds, where, as_document=as_document)
    if dataclasses.is_dataclass(kind):
        return _of_schema(typing.cast(type[Any], kind), where, as_document=as_document)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _of_enum(kind, where)
    check = _scalar(kind, bounds, where)
    if as_document and kind is bytes:
        return lambda value: check(value).hex(), lambda value: check(_from_hex(_typed(value, str, where), where))
    if as_document and Moment() in bounds:
        return (
            lambda value: moments.to_text(check(value)),
            lambda value: check(moments.from_text(_typed(value, str, where))),
        )
    return check, check


def _plain(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The plain type behind Annotated and NewType, and the bounds that were attached to it."""
    bounds: tuple[Any, ...] = ()
    if typing.get_origin(annotation) is typing.Annotated:
        annotation, *extra = typing.get_args(annotation)
        bounds = tuple(extra)
    while hasattr(annotation, "__supertype__"):
        annotation = annotation.__supertype__
    return annotation, bounds


def _of_tuple(inner: Any, bounds: tuple[Any, ...], where: str, *, as_document: bool) -> tuple[_Convert, _Convert]:
    write_one, read_one = _converters(inner, where, as_document=as_document)

    def write(value: Any) -> Any:
        _check_size(len(value), bounds, where)
        return [write_one(item) for item in value]

    def read(value: Any) -> Any:
        items = _typed(value, list, where)
        _check_size(len(items), bounds, where)
        return tuple([read_one(item) for item in items])

    return write, read


def _of_schema(kind: type[Any], where: str, *, as_document: bool) -> tuple[_Convert, _Convert]:
    form = _form(kind, as_document)
    return lambda value: form.write(_typed(value, kind, where)), form.read


def _of_enum(kind: type[enum.Enum], where: str) -> tuple[_Convert, _Convert]:
    def read(value: Any) -> Any:
        if type(value) not in (str, int):
            raise Malformed(f"{where}: not a {kind.__name__}")
        try:
            return kind(value)
        except ValueError as error:
            raise Malformed(f"{where}: unknown {kind.__name__}") from error

    return lambda value: _typed(value, kind, where).value, read


def _scalar(kind: Any, bounds: tuple[Any, ...], where: str) -> _Convert:
    """A check that gives its value back: one call for a byte string, of which most fields are."""
    if kind is bytes:

        def check(value: Any) -> Any:
            if type(value) is not bytes:
                _typed(value, bytes, where)
            for bound in bounds:
                if not bound.low <= len(value) <= bound.high:
                    _check_size(len(value), bounds, where)
            return value

        return check
    if kind is str:
        return lambda value: _check_size(len(_utf8(_typed(value, str, where), where)), bounds, where, value)
    if kind is int:
        ranges = tuple(bound for bound in bounds if isinstance(bound, Range))
        return lambda value: _check_range(_typed(value, int, where), ranges, where)
    return lambda value: _typed(value, kind, where)


def _typed(value: Any, kind: type[Any], where: str) -> Any:
    # Exact types: a bool is not an integer here, and a subclass has no place on the wire.
    if type(value) is not kind:
        raise Malformed(f"{where}: a value of type {type(value).__name__}")
    return value


def _from_hex(text: str, where: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError as error:
        raise Malformed(f"{where}: not hexadecimal") from error
    if data.hex() != text:
        raise Malformed(f"{where}: not lower-case hexadecimal")
    return data


def _utf8(text: str, where: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Malformed(f"{where}: a lone surrogate") from error


def _check_range(value: int, ranges: tuple[Range, ...], where: str) -> int:
    for bound in ranges:
        if not bound.low <= value <= bound.high:
            raise LimitExceeded(f"{where}: outside of {bound.low} to {bound.high}")
    return value


def _check_size(size: int, bounds: tuple[Any, ...], where: str, value: Any = None) -> Any:
    """Gives `value` back."""
    for bound in bounds:
        if size > bound.high:
            raise LimitExceeded(f"{where}: {size} over the limit of {bound.high}")
        if size < bound.low:
            raise Malformed(f"{where}: {size} under the minimum of {bound.low}")
    return value

"""DER (X.690), as little of it as one strict form of CMS needs: elements taken apart and put together.

Rules: one encoding for one value. A reader refuses tags of more than one byte, lengths that are indefinite or not in
their shortest form, whatever ends early, and bytes that follow; it never writes what it read anew, since what it
accepts is the one form already. What an element holds is read only by who knows its type, and recursion is theirs.

    info = der.only(data, der.SEQUENCE)           # exactly one element, with this tag
    fields = info.fields()                        # its elements, to be taken in their order
    version = fields.take(der.INTEGER)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

# Identifier octets (X.690 section 8.1.2): class, form and number in one byte.
INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
OID: Final = 0x06
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31

LENGTH_BYTES_MAX: Final = 4  #: of a length; four tell 4 GiB, more than any limit here
_LONG: Final = 0x80  #: a length of more than one byte, or an indefinite one
_MORE: Final = 0x1F  #: a tag of more than one byte (X.690 section 8.1.2.4)
#: UTCTime tells years from 1950 to 2049 (RFC 5280 section 4.1.2.5.1).
_UTC_YEAR_MIN: Final = 1950
_UTC_YEAR_MAX: Final = 2049


class DerError(ValueError):
    """The bytes are not DER, or not of the type that stands here; the message says which."""


def context(number: int) -> int:
    """The tag of a constructed element of the context class, `[number]`."""
    return 0xA0 | number


@dataclass(frozen=True, slots=True)
class Element:
    """One element: its tag, what it holds, and the bytes of both with the length between them."""

    tag: int
    content: bytes
    encoded: bytes

    def fields(self) -> Fields:
        """What it holds, element by element. Raises DerError."""
        return Fields(tuple(elements(self.content)))


class Fields:
    """The elements of a SEQUENCE, taken in their order."""

    __slots__ = ("_at", "_elements")

    def __init__(self, found: Sequence[Element]) -> None:
        self._elements = found
        self._at = 0

    @property
    def next_tag(self) -> int | None:
        """The tag of the element that is taken next, None at the end."""
        return self._elements[self._at].tag if self._at < len(self._elements) else None

    def take(self, tag: int) -> Element:
        """The next element, which must have this tag. Raises DerError."""
        if self.next_tag != tag:
            raise DerError("a field is missing, or of another type")
        self._at += 1
        return self._elements[self._at - 1]

    def take_if(self, tag: int) -> Element | None:
        """The next element where it has this tag, else None."""
        return self.take(tag) if self.next_tag == tag else None

    def end(self) -> None:
        """Raises DerError unless all of them were taken."""
        if self.next_tag is not None:
            raise DerError("a field follows that does not belong here")


# --- reading --------------------------------------------------------------------------------------------------------


def elements(data: bytes) -> list[Element]:
    """All elements that stand in a row. Raises DerError."""
    found, at = [], 0
    while at < len(data):
        element = first(data, at)
        found.append(element)
        at += len(element.encoded)
    return found


def only(data: bytes, tag: int) -> Element:
    """The one element that the bytes are, with this tag. Raises DerError."""
    element = first(data, 0)
    if element.tag != tag:
        raise DerError("it is of another type")
    if len(element.encoded) != len(data):
        raise DerError("bytes follow after its end")
    return element


def first(data: bytes, at: int) -> Element:
    """The element that begins at this byte; what follows it is not looked at. Raises DerError."""
    if len(data) - at < 2:
        raise DerError("it ends early")
    tag, length, start = data[at], data[at + 1], at + 2
    if tag & _MORE == _MORE:
        raise DerError("a tag has more than one byte")
    if length & _LONG:
        length, start = _long_length(data, start, length & ~_LONG)
    end = start + length
    if end > len(data):
        raise DerError("it ends early")
    return Element(tag, data[start:end], data[at:end])


def _long_length(data: bytes, at: int, size: int) -> tuple[int, int]:
    """A length in `size` bytes, and where the content begins (X.690 sections 8.1.3.5 and 10.1)."""
    if size == 0:
        raise DerError("a length is indefinite, which is not DER")
    if size > LENGTH_BYTES_MAX:
        raise DerError("a length is larger than anything here")
    if at + size > len(data):
        raise DerError("it ends early")
    length = int.from_bytes(data[at : at + size], "big")
    if length < _LONG or length >> 8 * (size - 1) == 0:
        raise DerError("a length is not in its shortest form, which is not DER")
    return length, at + size


def moment(element: Element) -> datetime:
    """A UTCTime or a GeneralizedTime in UTC with whole seconds (X.690 sections 11.7 and 11.8). Raises DerError."""
    digits, end = element.content[:-1], element.content[-1:]
    year_digits = {UTC_TIME: 2, GENERALIZED_TIME: 4}.get(element.tag, 0)
    if not year_digits or end != b"Z" or not digits.isdigit() or len(digits) != year_digits + 10:
        raise DerError("a time is not in its one form")
    year = int(digits[:year_digits])
    if element.tag == UTC_TIME:
        year += 1900 if year >= _UTC_YEAR_MIN % 100 else 2000
    month, day, hour, minute, second = (int(digits[at : at + 2]) for at in range(year_digits, len(digits), 2))
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise DerError("a time is none") from error


def dotted(identifier: Element) -> str:
    """An object identifier in its usual form, to be shown (X.690 section 8.19). Raises DerError."""
    arcs, arc = [], 0
    for byte in identifier.content:
        arc = arc << 7 | byte & 0x7F
        if not byte & 0x80:
            arcs.append(arc)
            arc = 0
    if not arcs or identifier.content[-1] & 0x80:
        raise DerError("an object identifier ends early")
    top = min(arcs[0] // 40, 2)
    return ".".join(map(str, (top, arcs[0] - 40 * top, *arcs[1:])))


# --- writing --------------------------------------------------------------------------------------------------------


def element(tag: int, *parts: bytes) -> bytes:
    """An element that holds these parts, one after the other."""
    content = b"".join(parts)
    size = len(content)
    if size < _LONG:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, _LONG | len(length))) + length + content


def sequence(*parts: bytes) -> bytes:
    """A SEQUENCE of these elements."""
    return element(SEQUENCE, *parts)


def set_of(*parts: bytes, tag: int = SET) -> bytes:
    """A SET OF these elements, in the order of DER (X.690 section 11.6)."""
    return element(tag, *sorted(parts))


def time(at: datetime) -> bytes:
    """UTCTime until 2049, GeneralizedTime after it (RFC 5652 section 11.3), whole seconds. Raises DerError."""
    utc = at.astimezone(UTC)
    if utc.year < _UTC_YEAR_MIN:
        raise DerError(f"a time is before {_UTC_YEAR_MIN}")
    if utc.year <= _UTC_YEAR_MAX:
        return element(UTC_TIME, utc.strftime("%y%m%d%H%M%SZ").encode("ascii"))
    return element(GENERALIZED_TIME, utc.strftime("%Y%m%d%H%M%SZ").encode("ascii"))

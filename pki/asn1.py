"""The ASN.1 library, for all of this room: import it from here, or the first use may go wrong.

asn1crypto makes the tables of a class when its first value is made, without a lock: a second thread that comes at that
moment finds them half filled and takes a good signature for a malformed one. So all tables are made here, once, while
nobody else can have a value yet (imports have a lock).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from asn1crypto import algos, cms, core, crl, ocsp, parser, tsp, x509

__all__ = ["algos", "cms", "core", "crl", "ocsp", "parser", "tsp", "x509"]


def _descendants(parent: type[Any]) -> Iterator[type[Any]]:
    for child in parent.__subclasses__():
        yield child
        yield from _descendants(child)


for _each in set(_descendants(core.Asn1Value)):
    # `Choice` itself, which is nothing without its alternatives, cannot be made; what comes of it can.
    with contextlib.suppress(TypeError):
        _each()

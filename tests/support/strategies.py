"""Strategies of hypothesis for the protocol: values of the CBOR and JSON profiles, and damage to valid objects."""

from __future__ import annotations

from collections.abc import Callable

from cbor2 import CBORTag
from hypothesis import strategies as st

from tests.support.protocol import flip

cbor_integers = st.integers(-(2**64), 2**64 - 1)
texts = st.text(max_size=24)  # without lone surrogates, as every UTF-8 decoder gives them
cbor_keys = st.one_of(cbor_integers, texts)


def _cbor_containers(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(cbor_keys, inner, max_size=4),
        st.builds(CBORTag, st.sampled_from([16, 18, 96]), inner),
    )


cbor_values = st.recursive(
    st.one_of(st.booleans(), cbor_integers, st.binary(max_size=40), texts), _cbor_containers, max_leaves=12
)

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
).filter(lambda value: _depth(value) <= 8)


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


@st.composite
def damaged(draw: Callable[..., object], data: bytes) -> bytes:
    """A valid object with one bit flipped, cut short, extended, with a piece removed, repeated or replaced."""
    kind = draw(st.sampled_from(["flip", "cut", "extend", "remove", "repeat", "replace"]))
    start = draw(st.integers(0, len(data) - 1))
    if kind == "flip":
        return flip(data, start * 8 + draw(st.integers(0, 7)))
    if kind == "cut":
        return data[:start]
    if kind == "extend":
        return data + draw(st.binary(min_size=1, max_size=8))
    end = start + draw(st.integers(1, 64))
    piece = {"remove": b"", "repeat": data[start:end] * 2, "replace": draw(st.binary(max_size=64))}[kind]
    return data[:start] + piece + data[end:]

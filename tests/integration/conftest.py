"""Fixtures of several of these tests."""

from __future__ import annotations

from tests.support.operator import operator

__all__ = ["operator"]

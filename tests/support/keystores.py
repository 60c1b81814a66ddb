"""What a passphrase costs in tests: the least that Argon2id knows, since the passphrases of tests keep no secret.

A keystore says itself what it costs, so that programs that are really started open the cheap ones too; what they write
costs what it always does. `tests/unit/crypto_core/test_keystore.py` and the demonstration work with the real cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from crypto_core import keystore

_NAMES: Final = ("ITERATIONS", "LANES", "MEMORY_KIB")
REAL: Final = tuple(getattr(keystore, name) for name in _NAMES)
LEAST: Final = (1, 1, 8)


def set_cost(put: Callable[[Any, str, int], None] = setattr, cost: tuple[int, ...] = LEAST) -> None:
    """What keystores cost that this process writes from now on: passes, lanes, KiB."""
    for name, value in zip(_NAMES, cost, strict=True):
        put(keystore, name, value)

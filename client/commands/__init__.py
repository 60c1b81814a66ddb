"""One file a verb: plain functions over a `Context`, callable without a terminal, that return frozen values.

A verb is imported when it is first used: whoever asks for new letters need not wait until everything is there that
looks into a package for a court.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from client.commands import (
        block,
        box,
        card,
        choose,
        delete,
        doctor,
        export,
        history,
        init,
        key,
        pending,
        people,
        proof,
        read,
        receipt,
        register,
        renew,
        send,
        slip_proof,
        status,
        thread,
        verify,
        watch,
    )

__all__ = ["block", "box", "card", "choose", "delete", "doctor", "export", "history", "init", "key", "pending"]
__all__ += ["people", "proof", "read", "receipt", "register", "renew", "send", "slip_proof", "status", "thread"]
__all__ += ["verify", "watch"]


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")

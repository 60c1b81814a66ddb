"""The page `docs/SETTINGS.md`, made from the settings themselves: `smr-repository settings` prints it.

A number is told with its unit, which is the last word of its name or stands in `UNITS`; a test keeps page and settings
the same.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from repository_worker.settings import PASSPHRASE_FILE, PREFIX, Settings

#: Units of the numbers whose names do not end in one.
UNITS: Final = {
    "client_rate": "messages a second",
    "guard_rate": "messages a second",
    "client_burst": "messages",
    "threads": "threads",
    "prefetch": "messages",
    "metrics_port": "port",
}
_UNIT_WORDS: Final = ("seconds", "bytes", "entries", "messages", "days")

_HEAD: Final = f"""# Settings of `smr-repository`

Every setting is an environment variable. Those of addresses that hold passwords also exist as `…_FILE`, which is the
better place: an environment can be read by more people than a file.

This page is made from the program: `smr-repository settings > docs/SETTINGS.md`.

`{PASSPHRASE_FILE}` names the file with the repository's passphrase; without it the passphrase is asked for.

| setting | default | unit | bounds | meaning |
|---|---|---|---|---|
"""


def page() -> str:
    """The whole page, in Markdown."""
    rows = [_row(name, field) for name, field in Settings.model_fields.items()]
    return _HEAD + "".join(rows)


def unit_of(name: str, field: FieldInfo) -> str:
    """The unit of a number, or nothing for what is none."""
    if field.annotation not in (int, float):
        return ""
    return UNITS.get(name) or next((word for word in _UNIT_WORDS if name.endswith(word)), "")


def _row(name: str, field: FieldInfo) -> str:
    cells = (
        f"`{PREFIX}{name.upper()}`",
        _default(field),
        unit_of(name, field),
        _bounds(field),
        field.description or "",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None or field.default is None:
        return "none" if field.default_factory is None else "see meaning"
    value: Any = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()  # an address on this machine, without a password
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _bounds(field: FieldInfo) -> str:
    """How pydantic keeps it: `ge`, `gt`, `le`, or the words of a choice."""
    signs = (("ge", "≥"), ("gt", ">"), ("le", "≤"))
    limits = [
        f"{sign} {getattr(each, name)}"
        for each in field.metadata
        for name, sign in signs
        if getattr(each, name, None) is not None
    ]
    choices = [f"`{each}`" for each in getattr(field.annotation, "__args__", ()) if isinstance(each, str)]
    return ", ".join(limits or choices)

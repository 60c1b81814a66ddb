"""What this room raises when a file is not an evidence package of the one form."""

from __future__ import annotations


class PackageRefused(Exception):
    """The file is not what export writes, or its parts do not belong together. The message is one reason."""

"""`python -m client` is `smr`."""

from __future__ import annotations

from client.cli import main

main()

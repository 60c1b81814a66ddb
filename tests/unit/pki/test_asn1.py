"""The tables of the ASN.1 library are made before a thread can meet them half made."""

from __future__ import annotations

import subprocess
import sys

import pytest

LEFT = """
import {module}
from asn1crypto import core

def descendants(parent):
    for child in parent.__subclasses__():
        yield child
        yield from descendants(child)

library = [each for each in set(descendants(core.Asn1Value)) if each.__module__.startswith("asn1crypto")]
print([each.__name__ for each in library if each not in core._SETUP_CLASSES])
"""


@pytest.mark.parametrize("module", ["pki.timestamp", "pki.certvalidator_engine"])
def test_no_table_is_left_for_the_first_use(module):
    program = [sys.executable, "-c", LEFT.format(module=module)]
    told = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.strip() == "['Choice']"

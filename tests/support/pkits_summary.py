"""Counts the cases of the NIST suite by section at the end of a run, in whichever process they ran."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Final

SECTIONS: Final = {
    1: "signature verification",
    2: "validity periods",
    3: "name chaining",
    4: "basic revocation",
    5: "self-issued certificates",
    6: "basic constraints",
    7: "key usage",
    8: "certificate policies",
    9: "require explicit policy",
    10: "policy mappings",
    11: "inhibit policy mapping",
    12: "inhibit any policy",
    13: "name constraints",
    14: "distribution points",
    15: "delta CRLs",
    16: "private extensions",
}
_CASE: Final = re.compile(r"\[pkits-4\.(\d+)\.")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says nothing when no case ran."""
    passed = Counter(_sections(terminalreporter.stats.get("passed", ())))
    failed = Counter(_sections(terminalreporter.stats.get("failed", ())))
    if not passed and not failed:
        return
    terminalreporter.section("NIST PKITS, without DSA")
    for number, title in SECTIONS.items():
        if passed[number] or failed[number]:
            missed = f", {failed[number]} FAILED" if failed[number] else ""
            terminalreporter.write_line(f"  4.{number:<3} {title:<26} {passed[number]:>3} passed{missed}")
    total = passed.total() + failed.total()
    terminalreporter.write_line(f"  {'all':<5} {'':<26} {passed.total():>3} of {total} passed")


def _sections(reports: Any) -> list[int]:
    matches = (_CASE.search(report.nodeid) for report in reports if getattr(report, "when", "") == "call")
    return [int(match[1]) for match in matches if match]

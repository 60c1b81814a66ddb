"""The alert rules ask for what workers measure, and the operator's guide says what to do about each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from repository_worker.metrics import Metrics

ROOT = Path(__file__).parents[3]
RULES = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8")
GUIDE = (ROOT / "docs" / "OPERATIONS.md").read_text("utf-8")
NAMES = re.findall(r"^ +- alert: (\w+)$", RULES, re.MULTILINE)
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def test_every_measurement_exists():
    measured = {f.name + suffix for f in Metrics().registry.collect() for suffix in SUFFIXES.get(f.type, ())}
    asked = set(re.findall(r"\bsmr_\w+", RULES))
    assert len(asked) > 6
    assert asked <= measured


def test_each_rule_is_whole():
    assert len(set(NAMES)) == len(NAMES)
    for part in ("expr: ", "labels: {severity: ", 'annotations: {summary: "'):
        assert RULES.count(part) == len(NAMES), part


@pytest.mark.parametrize("name", NAMES)
def test_the_guide_says_what_to_do(name):
    assert re.search(rf"^\| `{name}` \| .+ \| .+ \|$", GUIDE, re.MULTILINE)


def test_the_guide_names_no_other_alert_and_every_measurement_that_it_names_exists():
    assert set(re.findall(r"^\| `([A-Z]\w+)` \|", GUIDE, re.MULTILINE)) == set(NAMES)
    families = {family.name for family in Metrics().registry.collect()}
    named = {re.sub(r"_(total|bucket)$", "", each) for each in re.findall(r"`(smr_\w+)`", GUIDE)}
    assert named <= families
    assert families - {"smr_stage_cpu_seconds", "smr_batch_messages"} <= named

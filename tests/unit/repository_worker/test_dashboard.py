"""The dashboard of deploy/grafana asks for measurements that workers really make, by labels that they really have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from repository_worker.metrics import Metrics
from repository_worker.tallies import Tallies, Totals

DASHBOARD = Path(__file__).parents[3] / "deploy" / "grafana" / "dashboards" / "repository.json"
#: Measured by RabbitMQ (plugin rabbitmq_prometheus) and by Prometheus itself.
OTHERS = {
    "rabbitmq_process_resident_memory_bytes",
    "rabbitmq_disk_space_available_bytes",
    "rabbitmq_connections",
    "up",
}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


@pytest.fixture(scope="module")
def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return found


def expressions(panels: list[dict[str, Any]]) -> list[str]:
    return [target["expr"] for panel in panels for target in panel["targets"]]


def measured() -> set[str]:
    return {family.name + suffix for family in Metrics().registry.collect() for suffix in SUFFIXES.get(family.type, ())}


def test_every_measurement_exists(panels: list[dict[str, Any]]) -> None:
    asked = {name for each in expressions(panels) for name in re.findall(r"\b(?:smr|rabbitmq)_\w+|\bup\b", each)}
    assert len(asked) > 10
    assert asked - measured() - OTHERS == set()


def test_every_label_exists(panels: list[dict[str, Any]]) -> None:
    # The names are private to the library, and there is no other way to ask for labels of which none was used yet.
    known = {
        label
        for each in Metrics().registry._names_to_collectors.values()
        for label in (each.labels if isinstance(each, Tallies | Totals) else each._labelnames)
    }
    asked = {
        label.strip()
        for each in expressions(panels)
        for group in re.findall(r"by \(([^)]*)\)", each)
        for label in group.split(",")
    }
    assert asked - known == {"le"}


def test_every_panel_says_what_it_shows_and_in_which_unit(panels: list[dict[str, Any]]) -> None:
    assert len({panel["title"] for panel in panels}) == len(panels) == len({panel["id"] for panel in panels})
    for panel in panels:
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "prometheus"

"""Alive and ready are two things; metrics have help texts."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request

import pytest

from repository_worker.errors import HomeError, StorageUnavailable
from repository_worker.health import PROBE_SECONDS, Health, HealthServer
from repository_worker.metrics import Metrics, Stage
from tests.support.clock import Clock


class Database:
    def __init__(self):
        self.up = True
        self.asked = 0

    def probe(self):
        self.asked += 1
        if not self.up:
            raise StorageUnavailable("down")


@pytest.fixture
def database():
    return Database()


@pytest.fixture
def clock():
    return Clock(0.0)


@pytest.fixture
def health(database, clock):
    return Health(Metrics(), database.probe, monotonic=clock)


def test_ready_only_while_messages_flow(health):
    assert health.parts() == {"consuming": False, "database": True}
    health.consuming()
    assert health.parts()["consuming"]
    health.metrics.broker_reconnects.inc()  # the connection was lost
    assert not health.parts()["consuming"]
    health.consuming()
    assert health.parts()["consuming"]
    health.stopping()
    assert not health.parts()["consuming"]


def test_ready_only_while_the_database_answers(health, database, clock):
    assert health.parts()["database"]
    database.up = False
    assert health.parts()["database"]  # asked a moment ago
    clock.now += PROBE_SECONDS
    assert not health.parts()["database"]
    assert not health.parts()["database"]
    assert database.asked == 2


def ask(server, path):
    # Proxies of the environment have no place on loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_over_http(health):
    with HealthServer(health, 0) as server:
        assert ask(server, "/live")[0] == 200
        status, body = ask(server, "/ready")
        assert (status, json.loads(body)) == (503, {"ready": False, "consuming": False, "database": True})
        health.consuming()
        assert ask(server, "/ready")[0] == 200
        assert ask(server, "/")[0] == 404
        health.metrics.answered("SEND", "ok")
        with health.metrics.stage(Stage.STORE):
            pass
        text = ask(server, "/metrics")[1].decode()
    assert 'smr_commands_total{kind="SEND",outcome="ok"} 1.0' in text
    assert 'smr_stage_seconds_count{stage="store"} 1.0' in text


def test_a_port_that_is_taken(health):
    with HealthServer(health, 0) as server, pytest.raises(HomeError, match="METRICS_PORT"):
        HealthServer(health, server.port)


def test_a_stage_that_fails_is_measured_too():
    metrics = Metrics()
    with pytest.raises(ValueError, match="no"), metrics.stage(Stage.OPEN):
        raise ValueError("no")
    assert metrics.registry.get_sample_value("smr_stage_seconds_count", {"stage": "open"}) == 1


def test_a_stage_counts_what_it_used_and_not_how_long_it_waited():
    metrics = Metrics()
    began = time.thread_time()
    with metrics.stage(Stage.VERIFY):
        while time.thread_time() - began < 0.02:
            pass
    with metrics.stage(Stage.STORE):
        threading.Event().wait(0.02)
    used = {
        stage: metrics.registry.get_sample_value("smr_stage_cpu_seconds_total", {"stage": stage.value})
        for stage in (Stage.VERIFY, Stage.STORE)
    }
    assert used[Stage.VERIFY] > 0.015 > 0.01 > used[Stage.STORE]
    assert metrics.registry.get_sample_value("smr_stage_seconds_sum", {"stage": "store"}) > 0.015


def test_every_metric_has_a_help_text_and_times_say_their_unit():
    for family in Metrics().registry.collect():
        assert family.documentation.endswith("."), family.name
        if family.name.endswith("_seconds"):
            assert "seconds" in family.documentation, family.name

"""`smr-repository` as an operator runs it, on the session's servers. A conftest takes the fixture from here."""

from __future__ import annotations

import json
import os

import pytest
from pymongo import MongoClient

from repository_worker.keys import Home
from tests.support import programs


@pytest.fixture
def operator(tmp_path, vhost, mongo):
    """Runs `smr-repository` with settings of this test alone."""
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("only for tests\n")
    broker = vhost.administrator()
    url = tmp_path / "broker-url"
    url.write_text(f"amqp://{broker.user}:{broker.password}@{broker.host}:{broker.port}/{broker.vhost}")
    environment = {
        **os.environ,
        "SMR_PASSPHRASE_FILE": str(passphrase),
        "SMR_REPOSITORY_HOME": str(tmp_path / "home"),
        "SMR_REPOSITORY_MONGO_URL": mongo.uri,
        "SMR_REPOSITORY_MONGO_DATABASE": f"cli_{vhost.vhost[-8:]}",
        "SMR_REPOSITORY_BROKER_URL_FILE": str(url),
        "NO_COLOR": "1",
    }

    def run(*arguments, **more):
        return programs.run_for_text("repository_worker.cli", *arguments, env={**environment, **more})

    run.environment = environment
    run.home = Home(tmp_path / "home")
    yield run
    with MongoClient(mongo.uri) as client:
        client.drop_database(environment["SMR_REPOSITORY_MONGO_DATABASE"])


INIT = (
    *("init", "--name", "Correio", "--organisation", "Organização Exemplo"),
    *("--broker", "amqp://client@127.0.0.1/smr"),
)


def initialised(operator) -> dict:
    done = operator(*INIT, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

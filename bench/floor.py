"""The floor: a plain RPC worker that knows nothing of letters, in a process of its own.

    python -m bench.floor       reads its settings as a JSON line from standard input, says `ready`, works until SIGTERM

Everything around the work is as at our workers: the same kind of queue with the same arguments, the same prefetch, a
process per worker with one broker connection, durable messages in, transient replies out, an acknowledgement after the
reply. Like ours it takes what has come as one batch. What it does with a batch is in the settings:

    echo      nothing: the reply alone
    insert    one `insert_many` of all bodies, majority and journal
    find      one `find_one` a message, by an index
    update    one find and one bulk of updates, majority and journal, a batch

Told so, it also does the bare primitives of a SEND for each message, before and after that work: then it is not the
floor, but as near to it as a worker can come that verifies, opens and signs (`ceiling`).
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pika
import pymongo
from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from bench.primitives import Bare, Sample
from broker_config.connection import ConnectionSettings, connect

DATABASE = "bench_floor"
DOCUMENTS = 1000  #: documents that `find` and `update` choose from
POLL_SECONDS = 0.2
TRANSIENT = 1

Delivery = tuple[int, pika.BasicProperties, bytes]


def collection(mongo_url: str, name: str) -> Collection[dict[str, Any]]:
    """A collection of the floor, as durable as the repository's."""
    database = pymongo.MongoClient[dict[str, Any]](mongo_url, appname="bench-floor").get_database(
        DATABASE, read_concern=ReadConcern("majority"), write_concern=WriteConcern("majority", j=True)
    )
    return database[name]


def fill(mongo_url: str, document_bytes: int) -> None:
    """Makes the documents that `find` and `update` choose from."""
    documents = collection(mongo_url, "documents")
    documents.drop()
    documents.insert_many({"_id": number, "body": bytes(document_bytes), "unread": True} for number in range(DOCUMENTS))


class FloorWorker:
    """One plain worker."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._connection = connect(ConnectionSettings(**told["broker"]))
        self._channel = self._connection.channel()
        self._channel.basic_qos(prefetch_count=told["prefetch"])
        self._inserted = collection(told["mongo"], "inserted")
        self._documents = collection(told["mongo"], "documents")
        self._handle = {"echo": self._echo, "insert": self._insert, "find": self._find, "update": self._update}[
            told["work"]
        ]
        self._bare = Bare(Sample.from_text(told["sample"])) if told["sample"] else None
        self._reply = bytes(told["reply_bytes"])
        self._batch: list[Delivery] = []
        self._ended = False
        self._channel.basic_consume(told["queue"], self._take)

    def run(self) -> None:
        """Works until SIGTERM."""
        signal.signal(signal.SIGTERM, self._end)
        while not self._ended:
            self._connection.process_data_events(time_limit=POLL_SECONDS)
            if self._batch:
                batch, self._batch = self._batch, []
                self._work(batch)
                self._answer(batch)
        self._connection.close()

    def _work(self, batch: list[Delivery]) -> None:
        bare = self._bare
        if bare is None:
            self._handle(batch)
            return
        _for_each(batch, bare.verify, bare.open, bare.decode)
        self._handle(batch)
        _for_each(batch, bare.seal)

    def _end(self, _number: int, _frame: Any) -> None:
        self._ended = True

    def _take(self, _channel: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        self._batch.append((method.delivery_tag, properties, body))

    def _answer(self, batch: list[Delivery]) -> None:
        for _, properties, _ in batch:
            reply = pika.BasicProperties(correlation_id=properties.correlation_id, delivery_mode=TRANSIENT)
            self._channel.basic_publish("", properties.reply_to, self._reply, reply)
        self._channel.basic_ack(batch[-1][0], multiple=True)

    def _echo(self, batch: list[Delivery]) -> None:
        """Nothing to do."""

    def _insert(self, batch: list[Delivery]) -> None:
        self._inserted.insert_many([{"body": body} for _, _, body in batch], ordered=False)

    def _find(self, batch: list[Delivery]) -> None:
        for tag, _, _ in batch:
            self._documents.find_one({"_id": tag % DOCUMENTS})

    def _update(self, batch: list[Delivery]) -> None:
        numbers = [tag % DOCUMENTS for tag, _, _ in batch]
        list(self._documents.find({"_id": {"$in": numbers}}))
        # A value of its own for each message: an update that changes nothing would not reach the journal.
        self._documents.bulk_write(
            [
                UpdateOne({"_id": number}, {"$set": {"read": tag}})
                for number, (tag, _, _) in zip(numbers, batch, strict=True)
            ],
            ordered=False,
        )


def _for_each(batch: Sequence[Delivery], *stages: Callable[[], None]) -> None:
    """Stage by stage, as our workers do."""
    for stage in stages:
        for _ in batch:
            stage()


def main() -> None:
    """One worker, until SIGTERM."""
    worker = FloorWorker(json.loads(sys.stdin.readline()))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    worker.run()


if __name__ == "__main__":
    main()

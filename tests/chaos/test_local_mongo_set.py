"""The replica set of three: what a majority holds survives its primary, and nothing is left when it ends."""

from __future__ import annotations

from pathlib import Path

import pymongo

from repository_worker.local_mongo import LocalMongoSet


def test_a_majority_keeps_what_it_took_when_the_primary_goes(tmp_path: Path):
    with LocalMongoSet(tmp_path) as mongo:
        pids = [member.pid for member in mongo.members]
        with pymongo.MongoClient(mongo.uri, w="majority", journal=True) as client:
            client.post.letters.insert_one({"_id": "k7d2"})
            gone = mongo.kill_primary()
            assert mongo.members[gone].pid is None
            assert mongo.wait_for_primary() != gone
            client.post.letters.insert_one({"_id": "q9fm"})
            mongo.start()
            assert mongo.members[gone].hello()["setName"]
            before = mongo.step_down()
            assert mongo.wait_for_primary() != before
            found = {each["_id"] for each in client.post.letters.find()}
            assert found == {"k7d2", "q9fm"}
    assert [pid for pid in pids if pid and Path(f"/proc/{pid}").exists()] == []

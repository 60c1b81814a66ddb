"""Time stamps in a package: judged where a root of an authority is named, and by OpenSSL alone."""

from __future__ import annotations

import dataclasses
import subprocess

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from crypto_core import delivery, merkle
from crypto_core.delivery import EntryStamp
from evidence_package import contents
from evidence_package.errors import PackageRefused
from evidence_package.verdict import Indication, SubIndication
from evidence_package.verify import verify
from pki.timestamp import StampTrust, ask, read_answer
from tests.support.packages import LATER, ms
from tests.support.time_stamp_authority import TimeStampAuthority

NONCE = bytes(range(1, 17))


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return TimeStampAuthority(tmp_path_factory.mktemp("tsa"))


def stamped(world, authority, evidence=None):
    """All entries of the evidence, among others, under one stamp."""
    signed = evidence or world.evidence()
    found = delivery.decode(signed.document, world.repository)
    leaves = [merkle.leaf_hash(delivery.encode_leaf(delivery.leaf_of(found, each))) for each in found.entries]
    leaves = [merkle.leaf_hash(b"another"), *leaves, merkle.leaf_hash(b"one more")]
    tree = merkle.levels(leaves)
    root = tree[-1][0]
    token = read_answer(authority.answer(ask(root, NONCE)), root, NONCE, StampTrust((authority.root,)))
    stamps = tuple(
        EntryStamp(number, number + 1, len(leaves), merkle.path(tree, number + 1), token)
        for number in range(len(found.entries))
    )
    return world.package(evidence=signed, stamps=stamps)


def judge(world, package, *roots):
    return verify(world.seal(package), dataclasses.replace(world.trust, stamp_roots=roots), LATER)


def test_they_are_judged_where_a_root_is_named(world, authority):
    package = stamped(world, authority)
    report = judge(world, package, authority.root)
    assert report.passed
    assert [check.name for check in report.checks if check.about == "time stamp"] == ["sent", "receipt", "received"]
    assert "sent stamped" in dict(report.facts)
    silent = judge(world, package)
    assert silent.passed
    assert "3 time stamps" in silent.left_out[0]


def test_another_authority_does_not_count(world, authority, tmp_path):
    other = TimeStampAuthority(tmp_path / "other")
    report = judge(world, stamped(world, authority), other.root)
    assert (report.indication, report.sub_indication) == (
        Indication.INDETERMINATE,
        SubIndication.NO_CERTIFICATE_CHAIN_FOUND,
    )


@pytest.mark.parametrize("changes", [{"index": 2}, {"size": 3}, {"path": ()}, {"entry": 1}], ids=repr)
def test_the_stamp_of_something_else(world, authority, changes):
    package = stamped(world, authority)
    first = dataclasses.replace(package.stamps[0], **changes)
    report = judge(world, dataclasses.replace(package, stamps=(first,)), authority.root)
    assert report.indication is Indication.TOTAL_FAILED


def test_recorded_after_it_was_stamped(world, authority):
    """A repository that dates an entry later than it was is caught by the stamp."""
    late = dataclasses.replace(world.entries()[0], time=ms(LATER))
    package = stamped(world, authority, world.evidence((late,)))
    report = judge(world, dataclasses.replace(package, documents=()), authority.root)
    assert SubIndication.TIMESTAMP_ORDER_FAILURE in {check.sub_indication for check in report.checks}
    assert not report.passed


def test_a_stamp_of_an_entry_that_is_not_there(world, authority):
    package = stamped(world, authority)
    beyond = dataclasses.replace(package.stamps[0], entry=3)
    with pytest.raises(PackageRefused, match="does not have"):
        contents.write(dataclasses.replace(package, stamps=(beyond,)))


def test_openssl_alone_checks_them_by_the_readme_inside(world, authority, tmp_path):
    (tmp_path / "p.asice").write_bytes(world.seal(stamped(world, authority)))
    (tmp_path / "root.pem").write_bytes(world.ca.root.public_bytes(Encoding.PEM))
    folder = tmp_path / "p"
    subprocess.run(["unzip", "-q", "p.asice", "-d", "p"], cwd=tmp_path, check=True)
    lines = (folder / "README.txt").read_text("utf-8").splitlines()
    commands = "\n".join(line[4:] for line in lines if line.startswith("    "))

    def follow(tsa_root):
        environment = {"PATH": "/usr/bin:/bin", "STATE_ROOT": str(tmp_path / "root.pem"), "TSA_ROOT": str(tsa_root)}
        command = ["bash", "-eu", "-o", "pipefail", "-c", commands]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    done = follow(authority.root_path)
    assert done.returncode == 0, done.stderr
    assert commands.count("openssl ts") == 3
    assert follow(tmp_path / "root.pem").returncode != 0
    leaf = folder / "timestamps" / "2.json"
    leaf.write_bytes(leaf.read_bytes().replace(b"receipt", b"refusal"))
    assert follow(authority.root_path).returncode != 0

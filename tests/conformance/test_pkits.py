"""NIST's Public Key Interoperability Test Suite (RFC 5280 path validation), every case without DSA.

The case table `pkits_cases.json` says which files belong to a case, which policy inputs are set, and what must come of
it; the certificates and lists are in the package cryptography-vectors. `pytest -k pkits` runs this, and counts by
section at the end.
"""

from __future__ import annotations

import json
import warnings
from datetime import datetime
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning

from pki import certvalidator_engine, openssl_engine
from pki.authentic import sift
from pki.path import Verdict, find_path, validate_path
from pki.policy import PolicyInputs, ValidationPolicy
from pki.revocation_data import RevocationData

TABLE = json.loads(Path(__file__).with_name("pkits_cases.json").read_text(encoding="utf-8"))
CASES = TABLE["cases"]
MOMENT = datetime.fromisoformat(TABLE["moment"])
FILES = Path(cryptography_vectors.__file__).parent / "x509" / "PKITS_data"
CASES_WITH_DSA = {"4.1.4", "4.1.5", "4.1.6"}

# Two certificates of section 4.4 have negative serial numbers on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


def certificate(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return x509.load_der_x509_certificate((FILES / "certs" / name).read_bytes())


def lists(case):
    return RevocationData(crls=tuple((FILES / "crls" / n).read_bytes() for n in (TABLE["anchor_crl"], *case["crls"])))


def policy(case):
    inputs = dict(case.get("inputs", {}))
    inputs["initial_policies"] = frozenset(inputs.get("initial_policies", ()))
    return ValidationPolicy(inputs=PolicyInputs(**inputs))


@pytest.fixture(scope="module")
def anchor():
    return certificate(TABLE["anchor"])


def each(case):
    return pytest.param(case, id=f"pkits-{case['number']}-{case['name']}")


@pytest.mark.parametrize("case", [each(case) for case in CASES])
def test_case(case, anchor):
    result = validate_path(
        certificate(case["certificate"]),
        anchors=[anchor],
        intermediates=[certificate(name) for name in case["intermediates"]],
        revocation=lists(case),
        moment=MOMENT,
        policy=policy(case),
    )
    assert result.verdict.value == case["verdict"], result.detail
    if result.valid:
        assert len(result.path) == case["path"]
        assert (result.path[0], result.path[-1]) == (certificate(case["certificate"]), anchor)
    else:
        assert result.detail


def test_no_pkits_case_is_missing():
    leaves = {path.name for path in (FILES / "certs").glob("*EE.crt") if "DSA" not in path.name}
    assert leaves == {case["certificate"] for case in CASES}
    assert len({case["name"] for case in CASES}) == len(CASES) == 252
    numbers = {case["number"] for case in CASES}
    assert not numbers & CASES_WITH_DSA
    sizes = {
        1: 6,
        2: 8,
        3: 11,
        4: 21,
        5: 8,
        6: 17,
        7: 5,
        8: 20,
        9: 8,
        10: 14,
        11: 11,
        12: 10,
        13: 38,
        14: 35,
        15: 10,
        16: 2,
    }
    every = {f"4.{section}.{at}" for section, size in sizes.items() for at in range(1, size + 1)}
    assert numbers == every - CASES_WITH_DSA


def judgements(case, anchor):
    """What each engine alone says about a case that it may judge; nothing where there is no path or no list."""
    helpers = [certificate(name) for name in case["intermediates"]]
    leaf, rules = certificate(case["certificate"]), policy(case)
    found = find_path(leaf, anchors=[anchor], intermediates=helpers, moment=MOMENT, policy=rules)
    said = {"path": found.verdict}
    if found.valid:
        evidence = sift(lists(case), found.path, helpers, rules, MOMENT)
        if not openssl_engine.cannot_judge(found.path, evidence, rules):
            said["OpenSSL"] = openssl_engine.check_revocation(found.path, evidence, MOMENT).verdict
        said["certvalidator"] = certvalidator_engine.check(found.path, evidence, MOMENT, MOMENT, rules).verdict
    return said


def test_pkits_no_engine_alone_accepts_what_must_be_refused(anchor):
    """And what each of them judges: the second everything, the first most; neither refuses a good path on its own."""
    asked = {"path": 0, "OpenSSL": 0, "certvalidator": 0}
    for case in CASES:
        said = judgements(case, anchor)
        last = [verdict for name, verdict in said.items() if name != "path"]
        for name in said:
            asked[name] += 1
        if case["verdict"] == "valid":
            assert set(said.values()) == {Verdict.VALID}, case
        else:
            assert Verdict.VALID not in (last or said.values()), case
    assert asked == {"path": 252, "OpenSSL": 107, "certvalidator": 207}

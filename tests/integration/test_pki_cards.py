"""Cards over real PKCS#11 (SoftHSM): the same code path as for a real card, and everything that goes wrong with one."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding

from pki import identity
from pki.cades import sign_document, verify_document
from pki.errors import (
    CertificateMissing,
    NoCard,
    NoModule,
    PinRequired,
    SigningFailed,
    TestCaError,
    WrongPin,
)
from pki.path import Verdict
from pki.policy import Purpose
from pki.signers import Card, CardKeyUse, CardSettings, list_cards
from pki.virtual_card import create_virtual_card, list_virtual_cards, open_virtual_card
from tests.support.pki_fixtures import PIN, make_card, open_card

DOCUMENT = '{"body":"Olá! Segue a ata da reunião"}'.encode()


@pytest.fixture(params=["maria", "joao"])
def card(request):
    """Both kinds of card: RSA-3072 and P-256."""
    return request.getfixturevalue(request.param)


def test_a_card_shows_its_certificates_without_a_pin(card):
    with Card.open(card.settings) as opened:
        authentication = opened.certificate(CardKeyUse.AUTHENTICATION)
        signature = opened.certificate(CardKeyUse.SIGNATURE)
        assert opened.summary.label == card.label
    assert identity.holder_name(authentication) == card.holder
    assert identity.key_kind(authentication) == card.key_kind
    identity.same_citizen(authentication, signature)


def test_rsa_cards_hold_the_cas_and_p256_cards_do_not(maria, joao):
    with open_card(maria) as opened:
        assert len(opened.certificates()) == 5
    with open_card(joao) as opened:
        assert len(opened.certificates()) == 2


@pytest.mark.parametrize("use", list(CardKeyUse))
def test_a_signature_of_the_card_holds(card, use):
    with open_card(card) as opened:
        signature = opened.sign(use, DOCUMENT)
        key = opened.certificate(use).public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, DOCUMENT, ec.ECDSA(hashes.SHA256()))
    else:
        key.verify(signature, DOCUMENT, padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize("use", list(CardKeyUse))
def test_a_document_signed_by_the_card_is_accepted_by_us_and_by_openssl(test_pki, card, use, tmp_path):
    with open_card(card) as opened:
        made = sign_document(DOCUMENT, opened, use, chain=test_pki.ca.intermediates)
        assert verify_document(DOCUMENT, made).certificate == opened.certificate(use)
    (tmp_path / "document").write_bytes(DOCUMENT)
    (tmp_path / "signature").write_bytes(made)
    (tmp_path / "root").write_bytes(test_pki.ca.root.public_bytes(Encoding.PEM))
    command = "openssl cms -verify -binary -purpose any -inform DER -in signature -content document -CAfile root"
    done = subprocess.run([*command.split(), "-out", "copy"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("use", "purpose"),
    [(CardKeyUse.AUTHENTICATION, Purpose.AUTHENTICATION), (CardKeyUse.SIGNATURE, Purpose.SIGNATURE)],
)
def test_the_cards_certificates_are_valid_with_real_lists(test_pki, card, use, purpose):
    with open_card(card) as opened:
        certificate = opened.certificate(use)
    result = test_pki.validator().validate(certificate, purpose=purpose)
    assert result.verdict is Verdict.VALID, result.detail


def test_the_pin_is_asked_for_once(card):
    asked = []

    def pin(request):
        asked.append(request.use)
        return PIN

    with Card.open(card.settings, pin) as opened:
        assert asked == []
        opened.sign(CardKeyUse.AUTHENTICATION, b"1")
        opened.sign(CardKeyUse.SIGNATURE, b"2")
    assert asked == [CardKeyUse.AUTHENTICATION]


def test_a_wrong_pin_is_told_and_the_right_one_still_works(card):
    pins = iter(["0000", PIN])
    with Card.open(card.settings, lambda _use: next(pins)) as opened:
        with pytest.raises(WrongPin) as caught:
            opened.sign(CardKeyUse.AUTHENTICATION, b"1")
        assert "0000" not in str(caught.value)
        assert opened.sign(CardKeyUse.AUTHENTICATION, b"1")


@pytest.mark.parametrize("pin", [None, lambda _use: ""])
def test_without_a_pin_nothing_is_signed(card, pin):
    with Card.open(card.settings, pin) as opened, pytest.raises(PinRequired):
        opened.sign(CardKeyUse.AUTHENTICATION, b"1")


def test_the_pin_is_in_no_argument_and_no_environment(card):
    with open_card(card) as opened:
        opened.sign(CardKeyUse.AUTHENTICATION, b"1")
        process = Path("/proc") / str(opened.process_id)
        seen = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    assert f"={PIN}\0".encode() not in seen
    assert f"\0{PIN}\0".encode() not in seen


def test_the_signing_process_ends_with_the_card(card):
    with open_card(card) as opened:
        pid = opened.process_id
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    opened.close()
    with pytest.raises(SigningFailed, match="closed"):
        opened.sign(CardKeyUse.AUTHENTICATION, b"1")


def test_a_signing_process_killed_before_it_answers_is_an_error_and_nothing_hangs(card):
    with open_card(card) as opened:
        opened.sign(CardKeyUse.AUTHENTICATION, b"1")
        os.kill(opened.process_id, signal.SIGSTOP)  # it now holds the request and does not answer
        timer = threading.Timer(0.3, os.kill, (opened.process_id, signal.SIGKILL))
        timer.start()
        with pytest.raises(SigningFailed, match="ended unexpectedly"):
            opened.sign(CardKeyUse.AUTHENTICATION, b"2")
        timer.join()


def test_a_signing_process_that_does_not_answer_is_ended_after_its_time(card):
    settings = CardSettings(card.module, card.label, card.settings.environment, sign_timeout_seconds=0.5)
    with Card.open(settings, lambda _use: PIN) as opened:
        os.kill(opened.process_id, signal.SIGSTOP)
        with pytest.raises(SigningFailed, match="did not answer within"):
            opened.sign(CardKeyUse.AUTHENTICATION, b"1")


def test_several_threads_may_use_one_card(joao):
    with open_card(joao) as opened:
        key = opened.certificate(CardKeyUse.SIGNATURE).public_key()
        results = {}

        def work(number):
            data = b"%d" % number
            results[data] = opened.sign(CardKeyUse.SIGNATURE, data)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 8
    for data, signature in results.items():
        key.verify(signature, data, ec.ECDSA(hashes.SHA256()))


def test_a_missing_module(card, tmp_path):
    with pytest.raises(NoModule):
        Card.open(CardSettings(tmp_path / "no.so"))


def test_a_file_that_is_no_module(tmp_path):
    (tmp_path / "bad.so").write_bytes(b"not a library")
    with pytest.raises(NoModule):
        Card.open(CardSettings(tmp_path / "bad.so"))


def test_no_card_in_the_reader(card, tmp_path):
    (tmp_path / "tokens").mkdir()
    empty = tmp_path / "softhsm2.conf"
    empty.write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n", encoding="utf-8")
    settings = CardSettings(card.module, None, {"SOFTHSM2_CONF": str(empty)})
    assert list_cards(settings) == []
    with pytest.raises(NoCard):
        Card.open(settings)


def test_another_card_than_the_one_asked_for(card):
    settings = CardSettings(card.module, "CC somebody else", card.settings.environment)
    with pytest.raises(NoCard, match="somebody else"):
        Card.open(settings)


def test_cards_are_listed(card):
    (found,) = list_cards(card.settings)
    assert (found.label, found.asks_pin_itself) == (card.label, False)


def test_a_card_whose_signature_is_not_active(own_pki):
    card = make_card(own_pki, "Bruno Antunes", signature_active=False)
    with open_card(card) as opened:
        assert opened.certificate(CardKeyUse.SIGNATURE) is None
        with pytest.raises(CertificateMissing):
            opened.sign(CardKeyUse.SIGNATURE, b"1")
        assert opened.sign(CardKeyUse.AUTHENTICATION, b"1")


def test_a_card_taken_away_while_open(own_pki):
    """SoftHSM has no reader to pull a card from: its token folder vanishes instead."""
    card = make_card(own_pki, "Bruno Antunes")
    with open_card(card) as opened:
        (card.folder / "tokens").rename(card.folder / "gone")
        with pytest.raises((SigningFailed, WrongPin, CertificateMissing, NoCard)):
            opened.sign(CardKeyUse.AUTHENTICATION, b"1")


def test_a_virtual_card_is_found_again_and_its_files_are_private(card):
    assert open_virtual_card(card.folder) == card
    assert card in list_virtual_cards(card.folder.parent)
    assert stat.S_IMODE(card.folder.stat().st_mode) == 0o700
    for path in card.folder.rglob("*"):
        if path.suffix in (".json", ".conf"):  # a serial number may have the same digits in it
            assert not re.search(rf"\b{PIN}\b", path.read_text(encoding="utf-8"))


BAD_CARDS = [
    {"key_kind": "RSA-512", "pin": PIN},
    {"key_kind": "P-256", "pin": "12"},
    {"key_kind": "P-256", "pin": "123456789"},
    {"key_kind": "P-256", "pin": "abcd"},
]


@pytest.mark.parametrize("arguments", BAD_CARDS)
def test_a_card_that_cannot_be_made(test_pki, tmp_path, arguments):
    with pytest.raises(TestCaError):
        create_virtual_card(test_pki.ca, tmp_path / "card", "João Sá", **arguments)


def test_a_card_is_never_overwritten(test_pki, joao):
    with pytest.raises(TestCaError, match="holds a card already"):
        create_virtual_card(test_pki.ca, joao.folder, "João Sá", key_kind="P-256", pin=PIN)


def test_expired_and_future_cards(own_pki):
    now = datetime.now(UTC)
    old = make_card(own_pki, "Maria Reis", not_before=now - timedelta(days=9), not_after=now - timedelta(days=1))
    new = make_card(own_pki, "Bruno Antunes", not_before=now + timedelta(days=1))
    verdicts = []
    for card in (old, new):
        with open_card(card) as opened:
            verdicts.append(own_pki.validator().validate(opened.certificate(CardKeyUse.AUTHENTICATION)).verdict)
    assert verdicts == [Verdict.EXPIRED, Verdict.NOT_YET_VALID]


def test_a_revoked_card_is_refused_from_then_on(own_pki):
    card = make_card(own_pki, "Bruno Antunes")
    with open_card(card) as opened:
        certificate = opened.certificate(CardKeyUse.SIGNATURE)
    validator = own_pki.validator()
    before = datetime.now(UTC) - timedelta(minutes=1)
    assert validator.validate(certificate).valid
    own_pki.ca.revoke(card.serials[CardKeyUse.SIGNATURE])
    assert validator.validate(certificate).verdict is Verdict.REVOKED
    assert validator.validate(certificate, moment=before).verdict is Verdict.VALID


def test_an_answer_is_remembered_for_its_time_and_forgotten_on_demand(own_pki):
    card = make_card(own_pki, "Bruno Antunes")
    with open_card(card) as opened:
        certificate = opened.certificate(CardKeyUse.SIGNATURE)
    validator = own_pki.validator(remember_for=timedelta(hours=1))
    assert validator.validate(certificate).valid
    own_pki.ca.revoke(card.serials[CardKeyUse.SIGNATURE])
    assert validator.validate(certificate).valid
    validator.forget()
    assert validator.validate(certificate).verdict is Verdict.REVOKED


def test_without_the_crl_server_nobody_can_tell_and_that_is_not_remembered(own_pki):
    card = make_card(own_pki, "Bruno Antunes")
    with open_card(card) as opened:
        certificate = opened.certificate(CardKeyUse.SIGNATURE)
    hidden = own_pki.folder / "hidden"
    own_pki.ca.crl_folder.rename(hidden)
    validator = own_pki.validator(remember_for=timedelta(hours=1))
    result = validator.validate(certificate)
    assert result.verdict is Verdict.COULD_NOT_TELL
    assert "404" in result.detail
    hidden.rename(own_pki.ca.crl_folder)
    assert own_pki.validator().validate(certificate).valid

"""What goes wrong with cards: each trouble gives its own message, nothing hangs, and nothing is left behind.

Where SoftHSM cannot play the trouble, `tests.support.faulty_signing_process` changes what it says on the way.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from pki import signers
from pki.cades import SignatureAlgorithm, sign_document, verify_document
from pki.errors import (
    CardRemoved,
    CertificateMissing,
    KeyMismatch,
    NoCard,
    NoMechanism,
    PinCancelled,
    PinLocked,
    PinRequired,
    SeveralCards,
    SigningFailed,
    WrongPin,
)
from pki.identity import fingerprint, holder_name
from pki.signers import Card, CardKeyUse, CardSettings, list_cards, list_readers
from pki.tokens import profiles
from tests.support import faulty_signing_process
from tests.support.faulty_signing_process import faults
from tests.support.odd_token_process import OddKey, make_token
from tests.support.pki_fixtures import PIN

USE = CardKeyUse.AUTHENTICATION


@pytest.fixture(autouse=True)
def _faulty(monkeypatch):
    monkeypatch.setattr(signers, "SIGNING_PROCESS", faulty_signing_process.MODULE)


def opened(settings, asked=None, pin=PIN):
    def ask(request):
        if asked is not None:
            asked.append(request)
        return pin

    return Card.open(settings, ask)


# ------------------------------------------------------------ PIN and login


@pytest.mark.parametrize(
    ("returned", "error", "says"),
    [
        ("CKR_PIN_INCORRECT", WrongPin, "A few wrong PINs"),
        ("CKR_PIN_LOCKED", PinLocked, "PUK"),
        ("CKR_USER_PIN_NOT_INITIALIZED", PinLocked, "never set"),
        ("CKR_FUNCTION_CANCELED", PinCancelled, "dialog was closed"),
        ("CKR_TOKEN_NOT_PRESENT", CardRemoved, "was removed"),
        ("CKR_DEVICE_ERROR", SigningFailed, "CKR_DEVICE_ERROR"),
    ],
)
def test_each_trouble_at_login_has_its_message(joao, returned, error, says):
    with opened(faults(joao.settings, login=[returned])) as card:
        with pytest.raises(error, match=says) as caught:
            card.sign(USE, b"1")
        assert PIN not in str(caught.value)
        assert caught.value.action


def test_a_wrong_pin_with_one_try_left_says_so(joao):
    settings = faults(joao.settings, login=["CKR_PIN_INCORRECT"], set=["CKF_USER_PIN_FINAL_TRY"])
    asked = []
    with opened(settings, asked) as card, pytest.raises(WrongPin, match="one try is left") as caught:
        card.sign(USE, b"1")
    assert caught.value.final_try
    assert [request.final_try for request in asked] == [True]


def test_a_locked_pin_is_not_even_asked_for(joao):
    asked = []
    with opened(faults(joao.settings, set=["CKF_USER_PIN_LOCKED"]), asked) as card, pytest.raises(PinLocked):
        card.sign(USE, b"1")
    assert asked == []


def test_a_reader_with_its_own_pin_pad_is_left_to_ask(joao):
    """SoftHSM wants a PIN in C_Login; that it gets none is the point."""
    asked = []
    with opened(faults(joao.settings, set=["CKF_PROTECTED_AUTHENTICATION_PATH"]), asked) as card:
        assert card.summary.asks_pin_itself
        with pytest.raises((WrongPin, SigningFailed)):
            card.sign(USE, b"1")
    assert asked == []


def test_a_card_that_requires_no_login_is_not_logged_in(joao):
    asked = []
    with opened(faults(joao.settings, clear=["CKF_LOGIN_REQUIRED"], login=["CKR_PIN_LOCKED"]), asked) as card:
        assert card.summary.asks_pin_itself
        with pytest.raises(CertificateMissing):  # SoftHSM shows no private key before a login; a real card does
            card.sign(USE, b"1")
    assert asked == []


def test_a_driver_that_forgot_the_login_is_told(joao):
    with opened(faults(joao.settings, sign=["CKR_USER_NOT_LOGGED_IN"])) as card, pytest.raises(PinRequired):
        card.sign(USE, b"1")


# ------------------------------------------------------------ cards that come, go and differ


def test_a_card_pulled_out_during_a_signature(joao):
    pulled = faults(joao.settings, sign=["CKR_DEVICE_REMOVED"])
    with opened(pulled) as card, pytest.raises(CardRemoved, match="Insert it again"):
        card.sign(USE, b"1")


def test_no_reader(joao):
    settings = faults(joao.settings, readers="none")
    with pytest.raises(NoCard, match="No card reader"):
        opened(settings)
    assert list_readers(settings).names == ()


@pytest.fixture(scope="module")
def two_cards(test_pki, joao, maria, tmp_path_factory):
    """Two readers with a card each: both virtual cards in one token folder."""
    folder = tmp_path_factory.mktemp("two")
    for card in (joao, maria):
        shutil.copytree(card.folder / "tokens", folder / "tokens", dirs_exist_ok=True)
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n", encoding="utf-8")
    return CardSettings(joao.module, None, {"SOFTHSM2_CONF": str(configuration)})


def test_of_two_cards_none_is_guessed(two_cards, joao, maria):
    with pytest.raises(SeveralCards) as caught:
        opened(two_cards)
    assert joao.label in str(caught.value)
    assert maria.label in str(caught.value)


def test_of_two_cards_one_is_named_by_label_or_slot(two_cards, joao, maria):
    infos = list_cards(two_cards)
    assert {info.label for info in infos} == {joao.label, maria.label}
    with opened(replace(two_cards, token_label=maria.label)) as card:
        assert holder_name(card.certificate(USE)) == maria.holder
    slot = next(info.slot for info in infos if info.label == joao.label)
    with opened(replace(two_cards, slot=slot)) as card:
        assert holder_name(card.certificate(USE)) == joao.holder


def test_a_card_that_is_not_there_is_told_from_no_card(two_cards):
    with pytest.raises(NoCard, match="not in any reader"):
        opened(replace(two_cards, token_label="somebody else"))
    with pytest.raises(NoCard, match="not in any reader"):
        opened(replace(two_cards, slot=424242))


@pytest.mark.parametrize("digits", ["", "1234567", "g" * 8])
def test_what_names_no_certificate_is_refused(joao, digits):
    with pytest.raises(NoCard, match="does not name a certificate"):
        opened(replace(joao.settings, certificate=digits))


def test_a_certificate_that_belongs_to_another_key(joao):
    swapped = faults(joao.settings, swap=True)
    with opened(swapped) as card, pytest.raises(KeyMismatch, match="do not belong together"):
        card.sign(USE, b"1")


# ------------------------------------------------------------ mechanisms, other cards


@pytest.mark.parametrize(
    ("offered", "algorithm"),
    [
        (["CKM_SHA256_RSA_PKCS"], SignatureAlgorithm.RSA_PKCS1_SHA256),
        (["CKM_RSA_PKCS"], SignatureAlgorithm.RSA_PKCS1_SHA256),
        (["CKM_SHA256_RSA_PKCS_PSS"], SignatureAlgorithm.RSA_PSS_SHA256),
        (["CKM_RSA_PKCS_PSS"], SignatureAlgorithm.RSA_PSS_SHA256),
    ],
)
def test_an_rsa_card_signs_with_what_it_offers(maria, offered, algorithm):
    with opened(faults(maria.settings, mechanisms=offered)) as card:
        assert card.mechanism(USE).name == offered[0]
        signed = sign_document(b"{}", card, USE)
        raw = card.sign(USE, b"1")
        key = card.certificate(USE).public_key()
    assert verify_document(b"{}", signed).algorithm is algorithm
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if "PSS" in offered[0] else padding.PKCS1v15()
    key.verify(raw, b"1", scheme, hashes.SHA256())


@pytest.mark.parametrize("who", ["joao", "maria"])
def test_a_card_that_offers_nothing_usable_says_so(request, who):
    settings = faults(request.getfixturevalue(who).settings, mechanisms=["CKM_SHA1_RSA_PKCS", "CKM_ECDSA_SHA1"])
    with opened(settings) as card:
        with pytest.raises(NoMechanism):
            card.mechanism(USE)
        with pytest.raises(NoMechanism, match="newer card"):
            card.sign(USE, b"1")


GENERIC_KEYS = [
    OddKey("authentication", "Isikutuvastus", "one", 1),
    OddKey("signature", "Allkirjastamine", "two", 2),
]


@pytest.fixture(scope="module")
def generic(test_pki, tmp_path_factory):
    return make_token(test_pki, tmp_path_factory.mktemp("generic"), "Bruno Antunes", "eID", GENERIC_KEYS)


@pytest.fixture(scope="module")
def piv(test_pki, tmp_path_factory):
    keys = [
        OddKey("authentication", "Certificate for PIV Authentication", "PIV AUTH key", 1),
        OddKey("signature", "Certificate for Digital Signature", "SIGN key", 2, always_authenticate=True),
    ]
    return make_token(test_pki, tmp_path_factory.mktemp("piv"), "Bruno Antunes", "PIV", keys)


def test_an_unknown_eid_signs_with_the_key_of_its_certificate(generic):
    with opened(generic) as card:
        assert card.profile is profiles.GENERIC
        for use in CardKeyUse:
            signed = sign_document(b"{}", card, use)
            assert verify_document(b"{}", signed).certificate == card.certificate(use)


def test_a_key_that_wants_its_pin_every_time_gets_it_every_time(piv):
    asked = []
    with opened(piv, asked) as card:
        assert card.profile is profiles.PIV
        for _ in range(2):
            signed = sign_document(b"{}", card, CardKeyUse.SIGNATURE)
            assert verify_document(b"{}", signed).certificate == card.certificate(CardKeyUse.SIGNATURE)
        card.sign(USE, b"1")
    assert [request.use for request in asked] == [CardKeyUse.SIGNATURE] * 3  # the login, and two signatures


def test_a_wrong_pin_for_such_a_key_is_told_and_the_next_right_one_works(piv):
    pins = iter([PIN, "0000", PIN])
    with Card.open(piv, lambda _request: next(pins)) as card:
        with pytest.raises(WrongPin):
            card.sign(CardKeyUse.SIGNATURE, b"1")
        assert card.sign(CardKeyUse.SIGNATURE, b"1")


def test_of_several_certificates_the_named_one_is_used(test_pki, tmp_path):
    keys = [*GENERIC_KEYS, OddKey("authentication", "another", "three", 3)]
    settings = make_token(test_pki, tmp_path, "Bruno Antunes", "eID", keys)
    with opened(settings) as card:
        with pytest.raises(CertificateMissing, match="2 certificates for authentication"):
            card.sign(USE, b"1")
        wanted = card.certificates()[-1]
    with opened(replace(settings, certificate=fingerprint(wanted)[:12].upper())) as card:
        assert card.certificate(USE) == wanted
        assert verify_document(b"{}", sign_document(b"{}", card, USE)).certificate == wanted


# ------------------------------------------------------------ endless dialogs


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(path, seconds=10):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)


def test_a_dialog_that_nobody_answers_ends_after_its_time(joao, tmp_path):
    settings = faults(joao.settings, sign=["hang"], started=str(tmp_path / "started"))
    with opened(replace(settings, sign_timeout_seconds=0.7)) as card:
        with pytest.raises(SigningFailed, match="did not answer within"):
            card.sign(USE, b"1")
        pid = card.process_id
    assert (tmp_path / "started").exists()
    assert not alive(pid)


def test_ctrl_c_in_a_dialog_ends_it_at_once(joao, tmp_path):
    started = tmp_path / "started"
    settings = faults(joao.settings, sign=["hang"], started=str(started))

    def interrupt():
        wait_for(started)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt), opened(settings) as card:
        pid = card.process_id
        watcher.start()
        began = time.monotonic()
        card.sign(USE, b"1")
    watcher.join()
    assert not alive(pid)
    assert time.monotonic() - began < signers.SIGN_TIMEOUT_SECONDS / 10
    with pytest.raises(SigningFailed):
        card.sign(USE, b"1")

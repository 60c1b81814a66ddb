"""The citizen's card as the client uses it: which one, before which questions, and what goes on while it waits."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pika.exceptions
import pytest

from broker_config import connection, names
from client import cards, transport
from client.cards import open_card
from client.commands.card import cards as report
from client.context import Context
from client.errors import CardProblem, Stopped
from client.settings import Settings
from client.transport import Transport
from pki import identity, signers
from pki.cades import verify_document
from pki.errors import SeveralCards, SigningFailed
from pki.signers import Card, CardKeyUse, CardSettings
from tests.support import faulty_signing_process
from tests.support.faulty_signing_process import faults
from tests.support.pki_fixtures import PIN
from tests.support.servers import BrokerCorner

USE = CardKeyUse.AUTHENTICATION
INSTALLATION = names.installation_of(b"i" * 32)


@pytest.fixture(autouse=True)
def _faulty(monkeypatch):
    monkeypatch.setattr(signers, "SIGNING_PROCESS", faulty_signing_process.MODULE)


@pytest.fixture(scope="module")
def two_cards(joao, maria, tmp_path_factory) -> CardSettings:
    folder = tmp_path_factory.mktemp("two")
    for card in (joao, maria):
        shutil.copytree(card.folder / "tokens", folder / "tokens", dirs_exist_ok=True)
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n", encoding="utf-8")
    return CardSettings(joao.module, None, {"SOFTHSM2_CONF": str(configuration)})


def settings_of(home: Path, card: CardSettings, **changed) -> Settings:
    return replace(Settings(home=home, card=card, pin=lambda _: PIN), **changed)


def user_of(card):
    with Card.open(card.settings) as opened:
        return identity.user_id(opened.certificate(USE))


def test_of_two_cards_the_citizens_own_is_taken(two_cards, joao, maria, tmp_path):
    for card in (joao, maria):
        with open_card(settings_of(tmp_path, two_cards), user_of(card), nullcontext) as opened:
            assert identity.holder_name(opened.authentication) == card.holder
            assert verify_document(b"{}", opened.sign(b"{}", USE).signature).certificate == opened.authentication


@pytest.mark.parametrize("owner", [None, bytes(28)])
def test_of_two_cards_of_others_none_is_taken(two_cards, tmp_path, owner):
    with pytest.raises(SeveralCards), open_card(settings_of(tmp_path, two_cards), owner, nullcontext):
        pass


@pytest.mark.parametrize("agreed", [False, True])
def test_the_last_try_of_a_pin_is_only_made_by_somebody_who_agrees(joao, tmp_path, agreed):
    settings = settings_of(
        tmp_path, faults(joao.settings, set=["CKF_USER_PIN_FINAL_TRY"]), risk_last_try=lambda: agreed
    )
    with open_card(settings, None, nullcontext) as opened:
        if agreed:
            assert opened.sign(b"{}", USE)
        else:
            with pytest.raises(CardProblem, match="one try of its PIN is left, and none was made"):
                opened.sign(b"{}", USE)


def test_a_card_that_has_run_out_is_not_asked_to_sign(joao, tmp_path):
    later = int((datetime.now(UTC) + timedelta(days=4000)).timestamp() * 1000)
    asked = []
    settings = settings_of(tmp_path, joao.settings, clock=lambda: later, pin=lambda use: asked.append(use) or PIN)
    with open_card(settings, None, nullcontext) as opened:
        with pytest.raises(CardProblem, match=r"authentication certificate expired on .* smr renew"):
            opened.sign(b"{}", USE)
        with pytest.raises(CardProblem, match="signature certificate expired"):
            opened.sign(b"{}", CardKeyUse.SIGNATURE)
    assert asked == []


def test_it_is_said_what_is_awaited(joao, tmp_path):
    told = []

    @contextmanager
    def waiting(what: str) -> Iterator[None]:
        told.append(what)
        yield

    plain = settings_of(tmp_path, joao.settings, waiting=waiting)
    with open_card(plain, None, nullcontext) as opened:
        opened.sign(b"{}", USE)
    pad = replace(plain, card=faults(joao.settings, set=["CKF_PROTECTED_AUTHENTICATION_PATH"], login=["CKR_CANCEL"]))
    with open_card(pad, None, nullcontext) as opened, pytest.raises(Exception, match="without a PIN"):
        opened.sign(b"{}", USE)
    assert told == [
        "the card",
        "the card's signature",
        "the card",
        "the PIN on the reader or in its window, Ctrl-C to stop",
    ]


def test_all_cards_are_shown_with_what_they_can_do(two_cards, joao, maria, tmp_path):
    context = Context(settings_of(tmp_path, two_cards))
    context.home.claim(user_of(joao))
    shown = {card.label: card for card in report(context).cards}
    assert set(shown) == {joao.label, maria.label}
    mine, hers = shown[joao.label], shown[maria.label]
    assert (mine.own, hers.own) == (True, False)
    assert (mine.kind, hers.kind) == (
        "Cartão de Cidadão, cards from June 2024 on",
        "Cartão de Cidadão, cards until June 2024",
    )
    assert [key.mechanism for key in (*mine.keys, *hers.keys)] == ["ECDSA"] * 2 + ["SHA256_RSA_PKCS"] * 2
    assert {key.verdict for key in mine.keys} == {"untrusted"}  # no root was imported here
    assert mine.pin == "asked for here"


def test_a_card_with_troubles_is_shown_with_them(joao, tmp_path):
    locked = faults(joao.settings, set=["CKF_USER_PIN_LOCKED"], mechanisms=["CKM_ECDSA_SHA1"])
    (card,) = report(Context(settings_of(tmp_path, locked))).cards
    assert card.pin.startswith("locked")
    assert {(key.verdict, key.mechanism) for key in card.keys} == {("of no use", "")}


# -------------------------------------------------------------------------------- a dialog that nobody answers


@pytest.fixture
def impatient(vhost: BrokerCorner, monkeypatch) -> Iterator[Transport]:
    """A connection that the broker gives up after two seconds without a heartbeat."""

    real = connection.connect

    def connect(settings, name):
        return real(settings, heartbeat_seconds=1, name=name)

    monkeypatch.setattr(transport.broker, "connect", connect)
    monkeypatch.setattr(transport, "_BEAT_SECONDS", 0.2)
    made = Transport(vhost.client(INSTALLATION), INSTALLATION, reply_seconds=3.0)
    made._open()
    yield made
    made.close()


def still_there(used: Transport) -> bool:
    """Does the broker still know the connection's own queue?"""
    return used._channel.queue_declare(used._queue, passive=True).method.queue == used._queue


def test_heartbeats_go_on_while_a_dialog_hangs(joao, impatient, tmp_path):
    hanging = faults(joao.settings, sign=["hang"], started=str(tmp_path / "started"))
    settings = settings_of(tmp_path, replace(hanging, sign_timeout_seconds=5.0))
    unanswered = pytest.raises(SigningFailed, match="did not answer within 5 seconds")
    with open_card(settings, None, impatient.kept_alive) as opened, unanswered:
        opened.sign(b"{}", USE)
    assert still_there(impatient)


def test_ctrl_c_ends_the_dialog_and_leaves_the_connection(joao, impatient, tmp_path):
    started = tmp_path / "started"
    settings = settings_of(tmp_path, faults(joao.settings, sign=["hang"], started=str(started)))

    def interrupt():
        end = time.monotonic() + 20
        while not started.exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt), open_card(settings, None, impatient.kept_alive) as opened:
        pid = opened.card.process_id
        watcher.start()
        opened.sign(b"{}", USE)
    watcher.join()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not [each for each in threading.enumerate() if each.name == "smr heartbeat"]
    assert still_there(impatient)


def test_who_stops_ends_the_dialog(joao, impatient, tmp_path):
    started = tmp_path / "started"
    hanging = faults(joao.settings, sign=["hang"], started=str(started))
    settings = settings_of(tmp_path, hanging, stopped=started.exists)
    with open_card(settings, None, impatient.kept_alive) as opened:
        pid = opened.card.process_id
        with pytest.raises(Stopped):
            opened.sign(b"{}", USE)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not [each for each in threading.enumerate() if each.name in ("smr heartbeat", "smr stop")]
    assert still_there(impatient)


def test_a_connection_that_is_lost_meanwhile_does_not_stop_the_signature(joao, impatient, monkeypatch, tmp_path):
    beaten = threading.Event()

    def lost(**_arguments):
        beaten.set()
        raise pika.exceptions.StreamLostError

    monkeypatch.setattr(impatient._connection, "process_data_events", lost)
    with open_card(settings_of(tmp_path, joao.settings), None, impatient.kept_alive) as opened:
        with impatient.kept_alive():
            assert beaten.wait(10)
        assert opened.sign(b"{}", USE)


def test_the_own_card_is_found_by_its_citizen_only(two_cards, joao):
    assert cards.slot_of(two_cards, user_of(joao)) is not None
    assert cards.slot_of(two_cards, bytes(28)) is None

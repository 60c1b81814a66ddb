"""Session records and cookies: a copy in another place, or under a destroyed key, opens nothing."""

from __future__ import annotations

import dataclasses

import pytest

from crypto_core import cose, labels, records
from crypto_core.errors import DecryptionFailed, Malformed
from crypto_core.ids import LetterId, SessionId
from tests.support.protocol import BRUNO, JOAO, LETTER, MARIA, flip, kek, negotiation, with_header

KEK = kek()
KEKS = {KEK.id: KEK, kek("yesterday").id: kek("yesterday")}
OTHER_SESSION = SessionId(b"session-id-00002")


def made():
    record = negotiation().record
    return record, records.seal_record(KEK, record)


def test_round_trips():
    record, sealed = made()
    assert records.open_record(KEKS, record.session, sealed) == record
    assert records.kek_id_of(sealed) == KEK.id
    cookie = negotiation().opened.cookie
    assert records.open_cookie(KEKS, cookie.session, records.seal_cookie(KEK, cookie)) == cookie


def test_a_record_without_a_user():
    record = dataclasses.replace(negotiation().record, user=None)
    assert records.open_record(KEKS, record.session, records.seal_record(KEK, record)).user is None


def test_the_same_record_is_sealed_differently_every_time():
    record, sealed = made()
    assert records.seal_record(KEK, record) != sealed


def test_a_record_moved_to_another_session_is_refused():
    _, sealed = made()
    with pytest.raises(DecryptionFailed):
        records.open_record(KEKS, OTHER_SESSION, sealed)


def test_a_record_relabelled_for_another_session_is_refused():
    _, sealed = made()
    with pytest.raises(DecryptionFailed):
        records.open_record(KEKS, OTHER_SESSION, with_header(sealed, cose.SESSION, OTHER_SESSION))


def test_a_record_under_a_destroyed_key_is_refused():
    record, sealed = made()
    with pytest.raises(DecryptionFailed):
        records.open_record({kek("yesterday").id: kek("yesterday")}, record.session, sealed)
    with pytest.raises(DecryptionFailed):
        records.open_record({}, record.session, sealed)


def test_a_record_under_another_key_is_refused():
    record, sealed = made()
    for swapped in (
        records.open_record,
        lambda keks, session, data: records.open_record(
            keks, session, with_header(data, cose.KID, kek("yesterday").id)
        ),
    ):
        keks = {KEK.id: kek("yesterday"), kek("yesterday").id: kek("yesterday")}
        with pytest.raises(DecryptionFailed):
            swapped(keks, record.session, sealed)


def test_cookie_and_record_are_not_each_other():
    record, sealed = made()
    cookie = records.seal_cookie(KEK, negotiation().opened.cookie)
    with pytest.raises(Malformed):
        records.open_cookie(KEKS, record.session, sealed)
    with pytest.raises(Malformed):
        records.open_record(KEKS, record.session, cookie)
    with pytest.raises(DecryptionFailed):
        records.open_cookie(KEKS, record.session, with_header(sealed, cose.LABEL, labels.COOKIE))


def test_every_changed_byte_is_refused():
    record, sealed = made()
    for position in range(len(sealed)):
        with pytest.raises((DecryptionFailed, Malformed)):
            records.open_record(KEKS, record.session, flip(sealed, position * 8 + position % 8))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (cose.KID, b"short"),
        (cose.KID, "text"),
        (cose.SALT, bytes(31)),
        (cose.SESSION, bytes(15)),
        (cose.ALG, cose.ALG_A256GCM_COMMITTING),
        (cose.COUNTER, 1),
    ],
)
def test_headers_are_refused(name, value):
    record, sealed = made()
    with pytest.raises(Malformed):
        records.open_record(KEKS, record.session, with_header(sealed, name, value))


def test_key_id_of_something_else_is_refused():
    with pytest.raises(DecryptionFailed):
        records.kek_id_of(with_header(made()[1], cose.KID, 7))
    with pytest.raises(Malformed):
        records.kek_id_of(b"no record")


def test_kek_does_not_show_its_key():
    assert repr(KEK.key)[2:-1] not in repr(KEK)
    assert KEK.key.hex() not in repr(KEK)


# ------------------------------------------------------------------------------------------------------ stored shares

SECRET = bytes(range(32))
PLACE = (LETTER, MARIA, JOAO)


def test_a_share_comes_back():
    assert records.open_share(SECRET, *PLACE, records.seal_share(SECRET, *PLACE, b"trinta e dois")) == b"trinta e dois"


@pytest.mark.parametrize(
    "place",
    [(LetterId(b"letter-id-000002"), MARIA, JOAO), (LETTER, BRUNO, JOAO), (LETTER, MARIA, BRUNO)],
    ids=["letter", "author", "recipient"],
)
def test_a_share_that_was_moved_is_refused(place):
    sealed = records.seal_share(SECRET, *PLACE, b"trinta e dois")
    with pytest.raises(DecryptionFailed):
        records.open_share(SECRET, *place, sealed)
    for header, value in zip((cose.LETTER, cose.SENDER, cose.RECIPIENT), place, strict=True):
        sealed = with_header(sealed, header, value)
    with pytest.raises(DecryptionFailed):
        records.open_share(SECRET, *place, sealed)


def test_a_share_does_not_open_without_the_secret_of_the_repository():
    sealed = records.seal_share(SECRET, *PLACE, b"trinta e dois")
    assert b"trinta e dois" not in sealed
    with pytest.raises(DecryptionFailed):
        records.open_share(bytes(32), *PLACE, sealed)

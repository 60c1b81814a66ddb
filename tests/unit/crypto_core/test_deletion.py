"""What an app key signs when a letter is deleted: believed of the citizen whose login names that key, and of nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crypto_core import cose, deletion, documents, labels, limits
from crypto_core.deletion import SignedDeletion
from crypto_core.documents import Login
from crypto_core.errors import BindingMismatch, Malformed, ProtocolError, SignatureInvalid
from crypto_core.ids import SessionId
from tests.support.protocol import (
    JOAO,
    MARIA,
    NOW,
    OTHER_REPOSITORY,
    REPOSITORY,
    digest,
    entry,
    flip,
    make_deletion,
    resigned,
    signed,
    signing_key,
)

PLACED, HASH = entry(7), digest("entry 7")
MADE = make_deletion(PLACED, HASH)


def login(**changes) -> documents.SignedDocument:
    found = documents.decode(Login, MADE.login.document, REPOSITORY)
    return signed(documents.encode(replace(found, **changes)))


def test_who_reads_it_knows_which_entry_of_which_mailbox():
    found = deletion.read(MADE, REPOSITORY, JOAO)
    assert (found.mailbox, found.author, found.letter) == (JOAO, MARIA, PLACED.routing.letter)
    assert (found.number, found.entry, found.time) == (7, HASH, NOW)


def test_the_tombstone_records_all_that_proves_it():
    others = [
        SignedDeletion(make_deletion(PLACED, digest("other")).statement, MADE.login),
        SignedDeletion(MADE.statement, login(time=NOW - 1)),
        SignedDeletion(MADE.statement, documents.SignedDocument(MADE.login.document, b"another signature")),
    ]
    assert len({each.object_hash for each in (MADE, *others)}) == 4


@pytest.mark.parametrize(
    ("repository", "mailbox"), [(OTHER_REPOSITORY, JOAO), (REPOSITORY, MARIA)], ids=["repository", "mailbox"]
)
def test_of_another(repository, mailbox):
    with pytest.raises(BindingMismatch):
        deletion.read(MADE, repository, mailbox)


def test_a_statement_for_another_repository_under_a_login_for_this_one():
    with pytest.raises(BindingMismatch, match="another mailbox"):
        deletion.read(make_deletion(PLACED, HASH, repository=OTHER_REPOSITORY), REPOSITORY, JOAO)


@pytest.mark.parametrize(
    "changes",
    [
        {"user": MARIA},
        {"session": SessionId(bytes(16))},
        {"time": NOW + 1},
        {"time": NOW - limits.SESSION_MS - limits.HANDSHAKE_MS - 1},
    ],
    ids=["somebody else", "another session", "later", "long before"],
)
def test_under_a_login_that_does_not_cover_it(changes):
    with pytest.raises(BindingMismatch):
        deletion.read(SignedDeletion(MADE.statement, login(**changes)), REPOSITORY, JOAO)


def test_by_an_app_key_that_the_login_does_not_name():
    with pytest.raises(SignatureInvalid):
        deletion.read(SignedDeletion(make_deletion(PLACED, HASH, app="other").statement, MADE.login), REPOSITORY, JOAO)


def test_a_statement_that_names_another_app_key_than_the_one_that_signs():
    payload = cose.read_sign1(make_deletion(PLACED, HASH, app="other").statement, limits.KIB).unverified_payload
    statement = resigned(MADE.statement, signing_key("app"), payload=payload)
    with pytest.raises(BindingMismatch):
        deletion.read(SignedDeletion(statement, MADE.login), REPOSITORY, JOAO)
    with pytest.raises(BindingMismatch):
        deletion.sign(signing_key("other"), deletion.read(MADE, REPOSITORY, JOAO))


def test_another_label():
    statement = resigned(MADE.statement, signing_key("app"), {cose.LABEL: labels.MAILBOX_HEAD})
    with pytest.raises(Malformed):
        deletion.read(SignedDeletion(statement, MADE.login), REPOSITORY, JOAO)


def test_no_bit_of_the_statement_can_be_changed():
    for bit in range(0, 8 * len(MADE.statement), 7):
        with pytest.raises(ProtocolError):
            deletion.read(SignedDeletion(flip(MADE.statement, bit), MADE.login), REPOSITORY, JOAO)

"""Letters: what a reader opens belongs together, is for this reader, and is what was signed."""

from __future__ import annotations

import dataclasses

import pytest

from crypto_core import cbor, cose, documents, labels, letter, limits, schema, sealed, suite
from crypto_core.errors import BindingMismatch, DecryptionFailed, LimitExceeded, Malformed
from crypto_core.ids import LetterId, UserId
from crypto_core.sealed import ContentSecret
from tests.support import protocol
from tests.support.protocol import (
    BODY,
    BRUNO,
    JOAO,
    MARIA,
    NOW,
    OTHER_REPOSITORY,
    REPOSITORY,
    SUBJECT,
    digest,
    flip,
    make_draft,
    make_letter,
    opened_head,
    party,
    public_of,
    ring,
    sealed_letter,
    seed,
)

OTHER_LETTER = LetterId(b"letter-id-000002")


def seal_head(written, *readers, author=MARIA, letter_id=protocol.LETTER, named=None, **changes):
    """A head with any content, correctly sealed by its author: what a dishonest sender can make."""
    head = letter.Head(
        documents.SignedDocument(written.document, b"a CMS signature"),
        written.subject,
        written.subject_salt,
        written.body_salt,
        None,
    )
    made = dataclasses.replace(head, **changes)
    return sealed.seal(
        sealed.LETTER,
        REPOSITORY,
        letter_id,
        author,
        public_of(*(readers or (MARIA, JOAO))),
        ContentSecret.generate(),
        cbor.encode(schema.to_map(made)),
        named or made.signed,
        digest("body"),
    )


@pytest.mark.parametrize("user", [JOAO, BRUNO, MARIA])
def test_recipients_and_sender_read_the_same(user):
    head = opened_head(user)
    assert head.subject == SUBJECT
    assert head.letter.id == protocol.LETTER
    assert head.letter.from_ == party(MARIA)
    assert head.letter.to == documents.recipients_in_order({JOAO, BRUNO})
    assert head.letter.time == NOW
    assert head.letter.repository == REPOSITORY
    assert head.signed.signature == b"a CMS signature"
    assert letter.open_body(head, sealed_letter().body) == BODY


def test_neither_subject_nor_body_shows():
    for data in (SUBJECT.encode(), BODY, party(MARIA).registration):
        assert data not in sealed_letter().head
        assert data not in sealed_letter().body


def test_the_document_binds_parts_with_salts_of_their_own():
    written = make_draft()
    assert written.letter.body.digest == letter.part_digest(written.body_salt, BODY)
    assert written.letter.subject.digest == letter.part_digest(written.subject_salt, SUBJECT.encode())
    assert written.subject_salt != written.body_salt
    assert written.body_salt.hex() not in written.document.decode()
    again = make_draft()
    assert (again.body_salt, again.letter.body.digest) != (written.body_salt, written.letter.body.digest)


def test_a_sender_among_others_is_no_recipient():
    assert make_draft(JOAO, MARIA).letter.to == (JOAO,)


def test_a_letter_to_oneself():
    made = make_letter(MARIA)
    assert letter.open_body(opened_head(MARIA, made.head), made.body) == BODY


def test_an_empty_letter():
    written = letter.draft(REPOSITORY, protocol.LETTER, party(MARIA), {JOAO}, NOW, "", b"")
    made = letter.seal(written, b"a CMS signature", public_of(JOAO, MARIA))
    head = opened_head(JOAO, made.head)
    assert (head.subject, letter.open_body(head, made.body)) == ("", b"")


def test_two_letters_never_share_a_secret():
    assert opened_head(JOAO, make_letter().head).secret != opened_head(JOAO, make_letter().head).secret


# --------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"body": bytes(limits.BODY_BYTES + 1)}, LimitExceeded),
        ({"subject": "é" * (limits.SUBJECT_BYTES // 2 + 1)}, LimitExceeded),
        ({"to": {UserId(seed(str(n), 28)) for n in range(limits.RECIPIENTS + 1)}}, LimitExceeded),
        ({"to": set()}, Malformed),
        ({"media_type": ""}, Malformed),
        ({"media_type": "x" * 128}, LimitExceeded),
    ],
    ids=["body", "subject", "recipients", "nobody", "no media type", "media type"],
)
def test_limits_are_told_before_anything_is_signed(changes, error):
    given = {"to": {JOAO}, "time": NOW, "subject": "", "body": b"", **changes}
    with pytest.raises(error):
        letter.draft(REPOSITORY, protocol.LETTER, party(MARIA), **given)


def test_the_largest_letter():
    body = bytes(limits.BODY_BYTES)
    people = {UserId(seed(str(n), 28)) for n in range(limits.RECIPIENTS)}
    written = letter.draft(REPOSITORY, protocol.LETTER, party(MARIA), people, NOW, "é" * 512, body)
    keys = public_of(MARIA) | dict.fromkeys(people, protocol.sealing_key("João").public)
    made = letter.seal(written, bytes(limits.SIGNATURE_BYTES), keys)
    assert len(made.head) <= limits.SEALED_HEAD_BYTES
    assert len(made.body) <= limits.SEALED_BODY_BYTES
    assert letter.open_body(opened_head(MARIA, made.head), made.body) == body


def test_a_subject_that_is_no_text_is_refused():
    with pytest.raises(Malformed):  # before the card has signed anything
        letter.draft(REPOSITORY, protocol.LETTER, party(MARIA), {JOAO}, NOW, "\ud800", b"")


@pytest.mark.parametrize("readers", [(MARIA,), (JOAO,), (MARIA, BRUNO), (MARIA, JOAO, BRUNO)])
def test_it_is_sealed_for_exactly_the_people_of_the_document(readers):
    with pytest.raises(BindingMismatch):
        letter.seal(make_draft(JOAO), b"a CMS signature", public_of(*readers))


# ---------------------------------------------------------------------------------------------- what a reader refuses


def test_the_hand_made_head_opens():
    assert opened_head(JOAO, seal_head(make_draft())).subject == SUBJECT


def test_somebody_elses_letter_resealed_is_refused():
    # João passes Maria's signed letter on as his own, or as Maria's under another id.
    written = make_draft(JOAO, BRUNO)
    with pytest.raises(BindingMismatch, match="another letter"):
        opened_head(BRUNO, seal_head(written, JOAO, BRUNO, author=JOAO))
    with pytest.raises(BindingMismatch, match="another letter"):
        opened_head(JOAO, seal_head(written, letter_id=OTHER_LETTER))


def test_a_letter_to_somebody_else_is_refused():
    # Maria's letter to João, sealed for Bruno too: he is not named in what was signed.
    made = seal_head(make_draft(JOAO), MARIA, JOAO, BRUNO)
    with pytest.raises(BindingMismatch, match="does not name you"):
        opened_head(BRUNO, made)


@pytest.mark.parametrize(
    ("named", "sealed_for"),
    [((JOAO,), (MARIA, JOAO, BRUNO)), ((JOAO, BRUNO), (MARIA, JOAO))],
    ids=["also for somebody who is not named", "not for somebody who is named"],
)
def test_a_letter_sealed_for_other_people_than_it_names_is_refused(named, sealed_for):
    # João would believe that Bruno cannot read it, or that he can.
    with pytest.raises(BindingMismatch, match="sealed for other people"):
        opened_head(JOAO, seal_head(make_draft(*named), *sealed_for))


def test_a_letter_for_another_repository_is_refused():
    written = letter.draft(OTHER_REPOSITORY, protocol.LETTER, party(MARIA), {JOAO}, NOW, SUBJECT, BODY)
    with pytest.raises(BindingMismatch):
        opened_head(JOAO, seal_head(written))


def test_another_document_is_no_letter():
    login = protocol.negotiation().answered.login_document(MARIA, NOW)
    with pytest.raises(BindingMismatch):
        opened_head(JOAO, seal_head(make_draft(), signed=protocol.signed(login)))


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "Ata da reuniao"},
        {"subject": ""},
        {"subject": SUBJECT + " "},
        {"subject_salt": bytes(32)},
    ],
    ids=repr,
)
def test_another_subject_is_refused(changes):
    with pytest.raises(BindingMismatch, match="subject was changed"):
        opened_head(JOAO, seal_head(make_draft(), **changes))


@pytest.mark.parametrize("changes", [{"document": b"{}"}, {"signature": b"another signature"}])
def test_a_header_that_names_another_document_or_signature_is_refused(changes):
    written = make_draft()
    named = dataclasses.replace(protocol.signed(written.document), **changes)
    with pytest.raises(BindingMismatch, match="another one than the sealed object names"):
        opened_head(JOAO, seal_head(written, named=named))


def test_a_head_with_other_fields_is_refused():
    for plaintext in (b"", b"\xa0", cbor.encode({"signed": {}, "more": 1}), b"\xff"):
        made = sealed.seal(
            sealed.LETTER,
            REPOSITORY,
            protocol.LETTER,
            MARIA,
            public_of(MARIA, JOAO),
            ContentSecret.generate(),
            plaintext,
            protocol.signed(b"{}"),
            digest("body"),
        )
        with pytest.raises(Malformed):
            opened_head(JOAO, made)


def test_a_changed_document_is_refused():
    written = make_draft()
    document = written.document.replace(JOAO.hex().encode(), BRUNO.hex().encode())
    with pytest.raises(BindingMismatch):
        opened_head(JOAO, seal_head(written, signed=protocol.signed(document)))


def test_a_receipt_is_no_letter():
    view = sealed.read(sealed.RECEIPT, protocol.sealed_receipt()).view(MARIA)
    with pytest.raises(Malformed):
        letter.open_head(view, REPOSITORY, MARIA, ring(MARIA))


# ------------------------------------------------------------------------------------------------------------- the body


def test_the_body_of_another_letter_is_refused():
    with pytest.raises(BindingMismatch, match="belongs to this letter"):
        letter.open_body(opened_head(JOAO), make_letter().body)


def test_a_changed_body_is_refused():
    for bit in (0, 100, 200, len(sealed_letter().body) * 8 - 1):
        with pytest.raises(BindingMismatch):
            letter.open_body(opened_head(JOAO), flip(sealed_letter().body, bit))


def body_of(head, plaintext=BODY, **headers):
    """Another body under the letter's own secret, and the head that names it: what a dishonest sender can make."""
    names = {
        "alg": cose.ALG_A256GCM_COMMITTING,
        "label": labels.LETTER_BODY,
        "letter": head.letter.id,
    } | headers
    wire = {"alg": cose.ALG, "label": cose.LABEL, "letter": cose.LETTER, "more": cose.SALT}
    made = cose.encrypt0(
        head.secret.key(labels.LETTER_BODY, head.letter.id),
        {wire[name]: value for name, value in names.items()},
        plaintext,
    )
    return dataclasses.replace(head, body_hash=suite.sha256(made)), made


def test_the_hand_made_body_opens():
    assert letter.open_body(*body_of(opened_head(JOAO))) == BODY


@pytest.mark.parametrize("plaintext", [b"", BODY[:-1], BODY + b".", b"x" * len(BODY)])
def test_a_body_that_was_not_signed_is_refused(plaintext):
    with pytest.raises(BindingMismatch, match="body was changed"):
        letter.open_body(*body_of(opened_head(JOAO), plaintext))


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"letter": OTHER_LETTER}, BindingMismatch),
        ({"letter": bytes(15)}, Malformed),
        ({"label": labels.LETTER}, Malformed),
        ({"alg": cose.ALG_A256GCM}, Malformed),
        ({"more": bytes(32)}, Malformed),
    ],
    ids=lambda value: str(value)[:20],
)
def test_headers_of_a_body_are_checked(headers, error):
    with pytest.raises(error):
        letter.open_body(*body_of(opened_head(JOAO), **headers))


def test_the_head_key_does_not_open_the_body():
    head = opened_head(JOAO)
    headers = {
        cose.ALG: cose.ALG_A256GCM_COMMITTING,
        cose.LABEL: labels.LETTER_BODY,
        cose.LETTER: head.letter.id,
    }
    made = cose.encrypt0(head.secret.key(labels.LETTER, head.letter.id), headers, BODY)
    with pytest.raises(DecryptionFailed):
        letter.open_body(dataclasses.replace(head, body_hash=suite.sha256(made)), made)


def test_a_body_over_its_limit_is_refused():
    head = opened_head(JOAO)
    made = bytes(limits.SEALED_BODY_BYTES + 1)
    with pytest.raises(LimitExceeded):
        letter.open_body(dataclasses.replace(head, body_hash=suite.sha256(made)), made)


def test_parts_are_hashed_with_label_and_salt():
    assert letter.part_digest(b"s" * 32, b"data") == suite.labelled_hash(labels.CONTENT_DIGEST, b"s" * 32, b"data")
    assert letter.part_digest(b"s" * 32, b"data") != letter.part_digest(b"t" * 32, b"data")

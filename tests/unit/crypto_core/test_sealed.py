"""Sealed objects: one ciphertext, the named readers, one meaning for all of them."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crypto_core import cbor, cose, labels, limits, sealed, suite
from crypto_core.errors import BindingMismatch, DecryptionFailed, LimitExceeded, Malformed, ProtocolError
from crypto_core.ids import LetterId, UserId
from crypto_core.sealed import LETTER, RECEIPT, ContentSecret
from tests.support import protocol
from tests.support.protocol import (
    BRUNO,
    JOAO,
    MARIA,
    OTHER_REPOSITORY,
    REPOSITORY,
    digest,
    flip,
    public_of,
    reshape,
    ring,
    sealing_key,
    seed,
    with_header,
)

READERS = (MARIA, JOAO, BRUNO)
SECRET = ContentSecret(seed("content secret", 32))
PLAINTEXT = b"what only the readers see"
BODY_HASH = digest("body")
SIGNED = protocol.signed(b"a document")


def seal(*readers, kind=LETTER, author=MARIA, secret=SECRET, plaintext=PLAINTEXT, repository=REPOSITORY):
    body_hash = BODY_HASH if kind.has_body else None
    keys = public_of(*(readers or READERS))
    return sealed.seal(kind, repository, protocol.LETTER, author, keys, secret, plaintext, SIGNED, body_hash)


OBJECT = seal()


def view(user=JOAO, data=OBJECT, kind=LETTER):
    return sealed.read(kind, data).view(user)


def open_view(found, user=JOAO, repository=REPOSITORY, kind=LETTER, keys=None):
    return found.open(kind, repository, user, ring(user) if keys is None else keys)


@pytest.mark.parametrize("user", READERS)
def test_every_reader_and_the_author_open_the_same(user):
    secret, plaintext = open_view(view(user), user)
    assert (secret, plaintext) == (SECRET, PLAINTEXT)


def test_the_plaintext_does_not_show():
    assert PLAINTEXT not in OBJECT


def test_routing_is_read_without_keys():
    found = sealed.read(LETTER, OBJECT)
    assert found.routing == sealed.Routing(
        protocol.LETTER,
        MARIA,
        BODY_HASH,
        SECRET.commitment(labels.LETTER, protocol.LETTER),
        SIGNED.digest,
        SIGNED.signature_digest,
    )
    assert found.readers == tuple(sorted(READERS))
    assert found.recipients == tuple(sorted((JOAO, BRUNO)))


def test_a_letter_to_oneself_has_its_author_as_recipient():
    assert sealed.read(LETTER, seal(MARIA)).recipients == (MARIA,)


def test_all_readers_compute_the_same_object_hash():
    hashes = {view(user).object_hash for user in READERS} | {sealed.read(LETTER, OBJECT).object_hash}
    assert len(hashes) == 1


def test_the_object_hash_covers_everything():
    found = view()
    base = found.object_hash
    for changed in (
        dataclasses.replace(found, protected=found.protected + b"\x00"),
        dataclasses.replace(found, ciphertext=flip(found.ciphertext, 0)),
        dataclasses.replace(found, wraps=found.wraps[::-1]),
        dataclasses.replace(found, wraps=found.wraps[:-1]),
        dataclasses.replace(found, wraps=(*found.wraps, digest("another"))),
    ):
        assert changed.object_hash != base


# ------------------------------------------------------------------------------------------------------------- refusals


def test_who_is_no_reader_gets_no_view():
    with pytest.raises(BindingMismatch):
        sealed.read(LETTER, seal(MARIA, JOAO)).view(BRUNO)


def test_another_reader_cannot_use_this_wrap():
    with pytest.raises(BindingMismatch):
        open_view(view(JOAO), BRUNO)


def test_a_key_that_is_not_in_the_keystore_is_named():
    with pytest.raises(DecryptionFailed, match=sealing_key("João").public.key_id.hex()):
        open_view(view(), keys={})


def test_another_key_under_the_same_id_does_not_open():
    wanted = sealing_key("João").public.key_id
    with pytest.raises(DecryptionFailed):
        open_view(view(), keys={wanted: sealing_key("Bruno")})


def test_an_old_key_still_opens():
    assert open_view(view(), keys={**ring(BRUNO), **ring(JOAO)})


def test_the_wrap_of_another_object_is_refused():
    other = view(data=seal(secret=ContentSecret.generate()))
    with pytest.raises(BindingMismatch, match="not one of this object"):
        open_view(dataclasses.replace(view(), wrap=other.wrap))


def test_a_swapped_wrap_with_its_hash_is_refused():
    # The repository replaces wrap and hash: the wrap opens, and the key that it holds does not fit.
    other = view(data=seal(secret=ContentSecret(seed("other secret", 32))))
    found = view()
    wraps = tuple(suite.sha256(other.wrap) if each == suite.sha256(found.wrap) else each for each in found.wraps)
    with pytest.raises(BindingMismatch, match="commitment"):
        open_view(dataclasses.replace(found, wrap=other.wrap, wraps=wraps))


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (cose.LETTER, LetterId(b"letter-id-000002")),
        (cose.SENDER, BRUNO),
    ],
    ids=["letter", "sender"],
)
def test_a_changed_routing_does_not_open(header, value):
    changed = with_header(OBJECT, header, value)
    with pytest.raises(DecryptionFailed):
        open_view(view(data=changed))


def test_another_body_hash_does_not_open():
    with pytest.raises(DecryptionFailed):
        open_view(view(data=with_header(OBJECT, cose.BODY_HASH, digest("other body"))))


def test_a_changed_commitment_is_refused():
    with pytest.raises(BindingMismatch, match="commitment"):
        open_view(view(data=with_header(OBJECT, cose.COMMITMENT, digest("other"))))


def test_at_another_repository_it_does_not_open():
    with pytest.raises(DecryptionFailed):
        open_view(view(), repository=OTHER_REPOSITORY)


def test_a_changed_ciphertext_does_not_open():
    found = view()
    for bit in range(0, len(found.ciphertext) * 8, 7):
        with pytest.raises(DecryptionFailed):
            open_view(dataclasses.replace(found, ciphertext=flip(found.ciphertext, bit)))


# ---------------------------------------------------------- every name goes into the HPKE info of a wrap, one by one

INFO = {"kind": LETTER, "repository": REPOSITORY, "letter": protocol.LETTER, "author": MARIA, "reader": JOAO}


def wrapped(**changes):
    """João's view with a wrap of the right secret that was made for another context."""
    info = sealed._wrap_info(**{**INFO, **changes})
    key = sealing_key("João").public
    headers = sealed._wrap_headers(LETTER, MARIA, JOAO, key.key_id)
    wrap = cbor.encode(cose.wrap(key, SECRET.raw, headers, cose.ALG_A256GCM_COMMITTING, info).encode())
    return dataclasses.replace(view(), wrap=wrap, wraps=(suite.sha256(wrap),))


def test_the_hand_made_wrap_opens_as_far_as_the_wrap_goes():
    assert open_view(wrapped()) == (SECRET, PLAINTEXT)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": RECEIPT},
        {"repository": OTHER_REPOSITORY},
        {"letter": LetterId(b"letter-id-000002")},
        {"author": BRUNO},
        {"reader": BRUNO},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_name_goes_into_the_info_of_a_wrap(changes):
    with pytest.raises(DecryptionFailed):
        open_view(wrapped(**changes))


def test_the_next_layer_is_named_in_a_wrap():
    key = sealing_key("João").public
    headers = sealed._wrap_headers(LETTER, MARIA, JOAO, key.key_id)
    wrap = cbor.encode(cose.wrap(key, SECRET.raw, headers, cose.ALG_A256GCM, sealed._wrap_info(**INFO)).encode())
    with pytest.raises(DecryptionFailed):
        open_view(dataclasses.replace(view(), wrap=wrap, wraps=(suite.sha256(wrap),)))


def test_a_secret_of_another_size_is_refused():
    key = sealing_key("João").public
    headers = sealed._wrap_headers(LETTER, MARIA, JOAO, key.key_id)
    made = cose.wrap(key, b"s" * 16, headers, cose.ALG_A256GCM_COMMITTING, sealed._wrap_info(**INFO))
    wrap = cbor.encode(made.encode())
    with pytest.raises(Malformed):
        open_view(dataclasses.replace(view(), wrap=wrap, wraps=(suite.sha256(wrap),)))


# ------------------------------------------------------------------- one ciphertext that opens under two keys (AES-GCM)


def multiply(x, y):
    """The product in GF(2^128) with the bit order of GCM (NIST SP 800-38D section 6.3)."""
    product = 0
    for shift in range(127, -1, -1):
        if x >> shift & 1:
            product ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return product


def inverse(x):
    """x^(2^128 - 2)."""
    result, power = 1 << 127, x
    for bit in range(128):
        if bit:
            result = multiply(result, power)
        power = multiply(power, power)
    return result


def block_cipher(key, block):
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # one raw block, as GCM defines its hash key
    return int.from_bytes(encryptor.update(block))


def ghash(hash_key, aad, ciphertext):
    padded = b"".join(part + bytes(-len(part) % 16) for part in (aad, ciphertext))
    lengths = (len(aad) * 8).to_bytes(8) + (len(ciphertext) * 8).to_bytes(8)
    total = 0
    for start in range(0, len(padded) + 16, 16):
        block = (padded + lengths)[start : start + 16]
        total = multiply(total ^ int.from_bytes(block), hash_key)
    return total


def collide(first, second, aad, blocks=4):
    """A ciphertext with one tag that AES-GCM accepts under both content keys: one free block solves for the tag."""
    hash_keys = [block_cipher(each.key, bytes(16)) for each in (first, second)]
    masks = [block_cipher(each.key, each.iv + b"\x00\x00\x00\x01") for each in (first, second)]
    ciphertext = seed("ciphertext", 16 * (blocks - 1)) + bytes(16)
    known = [ghash(key, aad, ciphertext) ^ mask for key, mask in zip(hash_keys, masks, strict=True)]
    # The last block stands before the lengths: it is multiplied by the hash key twice.
    squares = [multiply(key, key) for key in hash_keys]
    free = multiply(known[0] ^ known[1], inverse(squares[0] ^ squares[1]))
    tag = known[0] ^ multiply(free, squares[0])
    return ciphertext[:-16] + free.to_bytes(16) + tag.to_bytes(16)


def test_a_ciphertext_that_opens_under_two_keys_is_refused_by_the_commitment():
    other = ContentSecret(seed("other secret", 32))
    keys = [each.key(labels.LETTER, protocol.LETTER) for each in (SECRET, other)]
    protected = sealed.read(LETTER, OBJECT).protected
    aad = cbor.encode(["Encrypt", protected, b""])
    ciphertext = collide(*keys, aad)
    # The attack is real: AES-GCM alone lets one ciphertext be two letters.
    opened = [AESGCM(key.key).decrypt(key.iv, ciphertext, aad) for key in keys]
    assert opened[0] != opened[1]

    found = wrapped()
    for_joao = dataclasses.replace(found, ciphertext=ciphertext)
    assert open_view(for_joao) == (SECRET, opened[0])

    key = sealing_key("Bruno").public
    info = sealed._wrap_info(**{**INFO, "reader": BRUNO})
    headers = sealed._wrap_headers(LETTER, MARIA, BRUNO, key.key_id)
    wrap = cbor.encode(cose.wrap(key, other.raw, headers, cose.ALG_A256GCM_COMMITTING, info).encode())
    for_bruno = dataclasses.replace(for_joao, wrap=wrap, wraps=(suite.sha256(wrap),))
    with pytest.raises(BindingMismatch, match="several ways"):
        open_view(for_bruno, BRUNO)


def test_key_commitment_and_content_key_are_different_outputs():
    made = {
        SECRET.key(labels.LETTER, protocol.LETTER).key,
        SECRET.key(labels.LETTER_BODY, protocol.LETTER).key,
        SECRET.key(labels.LETTER, LetterId(b"letter-id-000002")).key,
        SECRET.commitment(labels.LETTER, protocol.LETTER),
        SECRET.commitment(labels.RECEIPT, protocol.LETTER),
        SECRET.commitment(labels.LETTER, LetterId(b"letter-id-000002")),
        SECRET.raw,
    }
    assert len(made) == 7


# -------------------------------------------------------------------------------------------- the form, as handed in


def edit_recipients(change):
    def edit(fields):
        fields[3] = change(fields[3])

    return reshape(OBJECT, edit)


def rewrapped(position, **headers):
    """The object with other headers in the wrap at a position."""

    def change(recipients):
        protected, unprotected, ciphertext = recipients[position]
        changed = cbor.encode(
            {**cbor.decode(protected), **{getattr(cose, name): each for name, each in headers.items()}}
        )
        return [*recipients[:position], [changed, unprotected, ciphertext], *recipients[position + 1 :]]

    return edit_recipients(change)


@pytest.mark.parametrize(
    "data",
    [
        edit_recipients(lambda recipients: recipients[::-1]),
        edit_recipients(lambda recipients: [recipients[0], recipients[0], *recipients[1:]]),
        edit_recipients(lambda recipients: []),
        rewrapped(0, RECIPIENT=bytes(27)),
        rewrapped(0, RECIPIENT="0" * 28),
        rewrapped(0, KID=bytes(15)),
        rewrapped(0, LABEL=labels.RECEIPT_WRAP),
        rewrapped(0, ALG=46),
        rewrapped(0, SALT=bytes(32)),
        rewrapped(0, KID=bytes(16), RECIPIENT=bytes(28), LABEL=labels.LETTER),
        with_header(OBJECT, cose.LABEL, labels.RECEIPT),
        with_header(OBJECT, cose.ALG, cose.ALG_A256GCM),
        with_header(OBJECT, cose.LETTER, bytes(15)),
        with_header(OBJECT, cose.SENDER, bytes(27)),
        with_header(OBJECT, cose.COMMITMENT, bytes(31)),
        with_header(OBJECT, cose.BODY_HASH, bytes(31)),
        with_header(OBJECT, cose.DOCUMENT, bytes(31)),
        with_header(OBJECT, cose.DOCUMENT_SIGNATURE, bytes(31)),
        with_header(OBJECT, cose.SALT, bytes(32)),
    ],
)
def test_forms_are_refused(data):
    with pytest.raises(Malformed):
        sealed.read(LETTER, data)


def test_order_and_uniqueness_of_readers():
    with pytest.raises(Malformed, match="ascending"):
        sealed.read(LETTER, edit_recipients(lambda recipients: recipients[::-1]))
    with pytest.raises(Malformed, match="stands twice"):
        sealed.read(LETTER, edit_recipients(lambda recipients: [recipients[0], recipients[0], *recipients[1:]]))


def test_the_author_must_have_a_copy():
    with pytest.raises(Malformed, match="copy"):
        seal(JOAO, BRUNO)
    with pytest.raises(Malformed, match="copy"):
        sealed.read(LETTER, with_header(OBJECT, cose.SENDER, UserId(seed("nobody", 28))))


def test_a_letter_needs_a_body_and_a_receipt_has_none():
    found = cbor.decode(OBJECT)
    headers = cbor.decode(found.value[0])
    del headers[cose.BODY_HASH]
    found.value[0] = cbor.encode(headers)
    with pytest.raises(Malformed):
        sealed.read(LETTER, cbor.encode(found))
    receipt = seal(kind=RECEIPT)
    assert sealed.read(RECEIPT, receipt).routing.body_hash is None
    with pytest.raises(Malformed):
        sealed.read(RECEIPT, with_header(receipt, cose.BODY_HASH, BODY_HASH))


def test_letter_and_receipt_are_not_each_other():
    with pytest.raises(Malformed):
        sealed.read(RECEIPT, OBJECT)
    with pytest.raises(Malformed):
        open_view(view(), kind=RECEIPT)


def test_sizes_are_limited():
    with pytest.raises(LimitExceeded):
        sealed.read(LETTER, bytes(limits.SEALED_HEAD_BYTES + 1))
    with pytest.raises(LimitExceeded):
        sealed.read(RECEIPT, bytes(limits.RECEIPT_BYTES + 1))
    with pytest.raises(Malformed, match="limit"):
        sealed.read(
            LETTER,
            edit_recipients(lambda recipients: [[recipients[0][0], {-4: bytes(4096)}, b""], *recipients[1:]]),
        )


def test_the_number_of_readers_is_limited():
    people = [UserId(seed(f"person {number}", 28)) for number in range(limits.RECIPIENTS + 2)]
    key = sealing_key("João").public
    exact = sealed.seal(
        LETTER, REPOSITORY, protocol.LETTER, people[0], dict.fromkeys(people[:-1], key), SECRET, b"", SIGNED, BODY_HASH
    )
    assert len(sealed.read(LETTER, exact).recipients) == limits.RECIPIENTS
    more = sealed.seal(
        LETTER, REPOSITORY, protocol.LETTER, people[0], dict.fromkeys(people, key), SECRET, b"", SIGNED, BODY_HASH
    )
    with pytest.raises(Malformed, match="recipients"):
        sealed.read(LETTER, more)


@pytest.mark.parametrize("protected", [b"", b"\x80", b"\xa0", b"\x01", b"\xff"])
def test_a_view_that_is_none_is_refused(protected):
    with pytest.raises(Malformed):
        open_view(dataclasses.replace(view(), protected=protected))


def test_every_changed_byte_of_a_view_is_refused():
    found = view()
    for name in ("protected", "wrap"):
        data = getattr(found, name)
        for position in range(len(data)):
            with pytest.raises(ProtocolError):
                open_view(dataclasses.replace(found, **{name: flip(data, position * 8 + position % 8)}))


def test_a_content_secret_does_not_show():
    assert repr(SECRET.raw)[2:-1] not in repr(SECRET)
    assert ContentSecret.generate() != ContentSecret.generate()

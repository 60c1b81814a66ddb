"""Two readers of card signatures, ours and one on another library, agree about every damaged signature.

Where the damage lies in what is signed, the signature is made anew over it: so each refusal is of the damage, not of a
signature that does not hold.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pki import der
from pki.cades import sign_document, verify_document
from pki.errors import SignatureInvalid
from pki.tokens.profiles import CardKeyUse
from tests.support import cms_reference
from tests.support.cms_forge import DOCUMENT, Forge, OurCard, pss
from tests.support.der_mutations import damage, encode, tree
from tests.support.small_pki import SmallPki, name, usage

DAMAGED = 80  #: signatures of each kind
MAKE = {
    "RSA": (lambda: rsa.generate_private_key(65537, 2048), {"algorithm": "sha256_rsa"}),
    "PSS": (lambda: rsa.generate_private_key(65537, 2048), pss()),
    "ECDSA": (lambda: ec.generate_private_key(ec.SECP256R1()), {"algorithm": "sha256_ecdsa"}),
}


@dataclass
class Signed:
    """A signature, and what is needed to sign anew."""

    forge: Forge
    algorithm: dict[str, object]
    signature: bytes

    def signed_anew(self, root):
        """The bytes of a tree, with a signature over the attributes that it holds now, where it still holds any."""
        try:
            *_, signers = root[1][1][1][0][1]
            info = signers[1][0][1]
            attributes = next(each for each in info if each[0] == der.context(0))
            value = next(each for each in info if each[0] == der.OCTET_STRING)
        except (IndexError, TypeError, ValueError, StopIteration):
            return encode(root)
        over = encode([der.SET, *attributes[1:]])
        value[1] = self.forge.sign(over, self.algorithm, "sha256")
        return encode(root)


@pytest.fixture(scope="module", params=MAKE)
def signed(request):
    make, algorithm = MAKE[request.param]
    pki, key = SmallPki(), make()
    extensions = [(usage("digital_signature", "content_commitment"), True)]
    forge = Forge(pki.issue("ca", name("João Sá"), key.public_key(), extensions), key)
    chain = [pki.ca] if request.param == "ECDSA" else []
    if request.param == "PSS":
        return Signed(forge, algorithm, forge.make(algorithm=algorithm))
    return Signed(forge, algorithm, sign_document(DOCUMENT, OurCard(forge), CardKeyUse.SIGNATURE, chain=chain))


def accepted(signature, document=DOCUMENT):
    try:
        verify_document(document, signature)
    except SignatureInvalid:
        return False
    return True


def test_two_readers_agree_about_damage_that_is_well_signed(signed):
    chance = random.Random(signed.signature)
    told = Counter()
    for _ in range(DAMAGED):
        root = tree(signed.signature)
        kinds = [damage(root, chance) for _ in range(chance.choice((1, 1, 1, 2)))]
        changed = signed.signed_anew(root)
        ours = accepted(changed)
        assert ours == cms_reference.accepts(DOCUMENT, changed), (kinds, changed.hex())
        told[ours] += 1
    # An exchange of one element with itself, a repeated one that goes and the like leave a good signature.
    assert told[True] >= 1
    assert told[False] >= DAMAGED // 2


def test_two_readers_agree_about_flipped_bits_and_cut_ends(signed):
    good = signed.signature
    for position in range(good[-1] % 32, len(good), 32):
        flipped = bytearray(good)
        flipped[position] ^= 1 << (position // 32 % 8)
        for changed in (bytes(flipped), good[:position]):
            assert accepted(changed) == cms_reference.accepts(DOCUMENT, changed)


def test_two_readers_accept_the_same_good_ones(signed):
    for options in ({}, {"bare_digest": True}, {"without": ["signing_time"]}):
        good = signed.forge.make(algorithm=signed.algorithm, **options)
        assert accepted(good)
        assert cms_reference.accepts(DOCUMENT, good)
        assert not accepted(good, DOCUMENT + b" ")
        assert not cms_reference.accepts(DOCUMENT + b" ", good)

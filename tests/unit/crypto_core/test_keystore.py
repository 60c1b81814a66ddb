"""Keystores: a wrong passphrase, a changed byte anywhere, and files that ask for too much."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Annotated

import pytest

from crypto_core import cose, keystore, labels, limits
from crypto_core.errors import LimitExceeded, Malformed, ProtocolError, WrongPassphrase
from crypto_core.schema import Size
from tests.support import keystores
from tests.support.protocol import flip, with_header

PASSPHRASE = "três pássaros azuis"
DERIVATIONS = 100
PATIENCE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Secrets:
    """A keystore's content for these tests."""

    seed: Annotated[bytes, Size(32, 32)] = field(repr=False)


SECRETS = Secrets(b"the secret that is stored here..")


def seal(passphrase=PASSPHRASE, label=labels.KEYSTORE):
    return keystore.seal(SECRETS, label, passphrase)


def open_(data, passphrase=PASSPHRASE, label=labels.KEYSTORE):
    return keystore.open_(Secrets, data, label, passphrase)


def test_round_trip_with_the_real_cost(monkeypatch):
    keystores.set_cost(monkeypatch.setattr, keystores.REAL)
    data = seal()
    assert open_(data) == SECRETS
    cost = cose.read_encrypt0(data).headers[cose.KDF]
    assert cost == [3, 4, 64 * 1024]  # RFC 9106 section 4: passes, lanes, KiB
    with pytest.raises(WrongPassphrase):
        open_(data, PASSPHRASE + "!")


class TestAtAnyCost:
    def test_the_secret_does_not_show(self):
        assert SECRETS.seed not in seal()
        assert PASSPHRASE.encode() not in seal()

    def test_every_writing_has_a_new_salt(self):
        salts = {cose.read_encrypt0(seal()).headers[cose.SALT] for _ in range(20)}
        assert len(salts) == 20

    @pytest.mark.parametrize("wrong", ["", " ", PASSPHRASE[:-1], PASSPHRASE + "\n", PASSPHRASE.upper(), "x" * 1025])
    def test_wrong_passphrases(self, wrong):
        with pytest.raises(WrongPassphrase) as caught:
            open_(seal(), wrong)
        assert PASSPHRASE not in str(caught.value)

    @pytest.mark.parametrize("passphrase", ["", "x" * 1025, "é" * 513, "\ud800"])
    def test_passphrases_that_are_none(self, passphrase):
        with pytest.raises(WrongPassphrase):
            seal(passphrase)

    @pytest.mark.parametrize("passphrase", ["x", "x" * 1024, "é" * 512])
    def test_passphrases_at_the_bounds(self, passphrase):
        assert open_(seal(passphrase), passphrase) == SECRETS

    def test_both_spellings_of_an_accent_open_it(self):
        assert open_(seal("frase secret\u0061\u0301"), "frase secret\u00e1") == SECRETS

    def test_a_changed_byte_anywhere_is_refused(self):
        data = seal()
        for position in range(len(data)):
            with pytest.raises(ProtocolError):
                open_(flip(data, position * 8 + position % 8))

    def test_a_truncated_file_is_refused(self):
        data = seal()
        for size in range(len(data)):
            with pytest.raises(ProtocolError):
                open_(data[:size])
        with pytest.raises(Malformed):
            open_(data + b"\x00")

    def test_another_keystore_is_refused(self):
        with pytest.raises(Malformed):
            open_(seal(label=labels.REPOSITORY_KEYSTORE))
        with pytest.raises(WrongPassphrase):
            open_(with_header(seal(label=labels.REPOSITORY_KEYSTORE), cose.LABEL, labels.KEYSTORE))

    @pytest.mark.parametrize(
        "cost",
        [
            [0, 1, 8],
            [11, 1, 8],
            [1, 0, 8],
            [1, 17, 136],
            [1, 1, 0],
            [1, 1, 7],
            [1, 16, 127],
            [1, 1, 2**20 + 1],
            [2**32, 1, 8],
            [1, 1, 2**63],
            [-1, 1, 8],
            [True, 1, 8],
            [1, 1, True],
            [1, 1, "8"],
            [1, 1],
            [1, 1, 8, 1],
            [],
            8,
            {1: 1},
            "cost",
        ],
        ids=repr,
    )
    def test_hostile_cost_parameters_are_refused_before_any_work(self, cost, monkeypatch):
        data = with_header(seal(), cose.KDF, cost)
        monkeypatch.setattr(keystore, "Argon2id", lambda **_: pytest.fail("a key was derived"))
        with pytest.raises(Malformed):
            open_(data)

    def test_cost_parameters_are_bound(self):
        with pytest.raises(WrongPassphrase):
            open_(with_header(seal(), cose.KDF, [2, 1, 8]))

    @pytest.mark.parametrize(
        ("name", "value"),
        [(cose.SALT, bytes(31)), (cose.SALT, ""), (cose.ALG, cose.ALG_A256GCM_COMMITTING), (cose.KID, b"kid")],
    )
    def test_headers_are_refused(self, name, value):
        with pytest.raises(Malformed):
            open_(with_header(seal(), name, value))

    def test_a_file_over_its_limit_is_refused(self):
        with pytest.raises(LimitExceeded):
            open_(bytes(keystore.KEYSTORE_BYTES + 1))
        assert keystore.KEYSTORE_BYTES == 4 * limits.MIB

    def test_content_of_another_kind_is_refused(self):
        @dataclass(frozen=True, slots=True)
        class Other:
            number: int

        data = keystore.seal(Other(1), labels.KEYSTORE, PASSPHRASE)
        with pytest.raises(Malformed):
            open_(data)

    def test_threads_that_open_at_once_all_end(self):
        """OpenSSL's pool of threads for the lanes let derivations that met wait for each other, or fail."""
        data, opened = with_header(seal(), cose.KDF, [1, 4, 256]), []

        def work():
            for _ in range(DERIVATIONS):
                with pytest.raises(WrongPassphrase):  # the file's key was derived at another cost
                    open_(data)
            opened.append(DERIVATIONS)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        assert opened == [DERIVATIONS] * 3

"""The home folder: what is made, who may read it, and the ring of key-encryption keys."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from crypto_core import descriptor, limits
from crypto_core.ids import Milliseconds
from crypto_core.moments import to_datetime
from pki.evidence import verify_evidence
from pki.identity import load_certificate
from repository_worker.errors import HomeError
from repository_worker.keys import KEK_END_MS, KEK_LIFE_MS, Home, KekRing
from tests.support.protocol import NOW

PASSPHRASE = "correct horse"
BROKER = "amqp://client@127.0.0.1/smr"
SECRET = bytes(range(32))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("home") / "repository")
    home.create("Correio", "Organização Exemplo", BROKER, PASSPHRASE, NOW)
    return home


class TestHome:
    def test_only_its_owner_can_read_it(self, made):
        for path in made.folder.rglob("*"):
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), path

    def test_no_key_lies_open(self, made):
        opened = made.keystore(PASSPHRASE)
        identity = made.epochs(opened).look().current
        for path in (each for each in made.folder.rglob("*") if each.is_file()):
            data = path.read_bytes()
            assert identity.signing.seed not in data
            assert identity.sealing.seed not in data
            assert opened.wrapping_secret not in data
            assert b"BEGIN PRIVATE KEY" not in data
            assert b"BEGIN EC PRIVATE KEY" not in data

    def test_the_descriptor_verifies_and_names_its_keys(self, made):
        found, root = made.descriptor(NOW)
        identity = made.epochs(made.keystore(PASSPHRASE)).look().current
        assert found.signing_key == identity.signing.public.raw
        assert found.sealing_key == identity.sealing.public.raw
        assert found.repository == descriptor.derive_repository_id(found.operator_root, "Correio")
        assert root == found.operator_root.hex()
        assert found.broker == BROKER

    def test_another_passphrase(self, made):
        with pytest.raises(HomeError, match="passphrase"):
            made.keystore("wrong")

    def test_it_is_never_made_twice(self, made):
        before = made.keystore(PASSPHRASE)
        with pytest.raises(HomeError):
            made.create("Correio", "Organização Exemplo", BROKER, PASSPHRASE, NOW)
        assert made.keystore(PASSPHRASE) == before

    def test_no_secret_is_shown(self, made):
        opened = made.keystore(PASSPHRASE)
        assert repr(opened.wrapping_secret) not in repr(opened)

    def test_a_folder_without_one(self, tmp_path):
        with pytest.raises(HomeError, match="init"):
            Home(tmp_path / "none").keystore(PASSPHRASE)

    def test_evidence_is_signed_under_the_operator_root(self, made):
        signer = made.keystore(PASSPHRASE).evidence_signer()
        found, root = made.descriptor(NOW)
        certificate = load_certificate(made.keystore(PASSPHRASE).evidence.chain[-1])
        signature = signer.sign_document(b"{}", to_datetime(NOW))
        verify_evidence(b"{}", signature, certificate, root_fingerprint=root, moment=to_datetime(NOW))
        assert found.operator_root.hex() == root

    def test_another_key_for_evidence(self, tmp_path):
        home = Home(tmp_path)
        home.create("Correio", "Organização Exemplo", BROKER, PASSPHRASE, NOW)
        before = home.keystore(PASSPHRASE)
        certificate = home.renew_evidence(PASSPHRASE, NOW)
        after = home.keystore(PASSPHRASE)
        assert after.evidence.credential().certificate == certificate != before.evidence.credential().certificate
        assert after.wrapping_secret == before.wrapping_secret

    def test_a_damaged_key_for_evidence(self, made):
        kept = made.keystore(PASSPHRASE)
        for damage in ({"key": b"no key"}, {"chain": kept.evidence.chain[::-1]}, {"chain": (b"x", b"y")}):
            with pytest.raises(HomeError):
                replace(kept, evidence=replace(kept.evidence, **damage)).evidence_signer()

    def test_issued_anew_it_succeeds_the_old_one(self, tmp_path):
        home = Home(tmp_path)
        first = home.create("Correio", "Organização Exemplo", BROKER, PASSPHRASE, NOW)
        same_keys = home.reissue("amqp://other@127.0.0.1/smr", PASSPHRASE, NOW, new_keys=False)
        other_keys = home.reissue(BROKER, PASSPHRASE, NOW, new_keys=True)
        descriptor.require_successor(first, same_keys)
        descriptor.require_successor(same_keys, other_keys)
        assert same_keys.signing_key == first.signing_key != other_keys.signing_key
        assert home.descriptor(NOW)[0] == other_keys
        assert [each.epoch for each in (first, same_keys, other_keys)] == [1, 2, 3]
        assert {each.oldest for each in (first, same_keys, other_keys)} == {1}


def later(milliseconds: int) -> Milliseconds:
    return Milliseconds(NOW + milliseconds)


class TestKeks:
    @pytest.fixture
    def ring(self, tmp_path):
        return KekRing(tmp_path / "kek", SECRET)

    def test_one_for_a_day(self, ring):
        first = ring.current(NOW)
        assert ring.current(later(KEK_LIFE_MS - 1)) == first
        assert ring.current(later(KEK_LIFE_MS)) != first

    def test_workers_share_them(self, ring, tmp_path):
        other = KekRing(tmp_path / "kek", SECRET)
        made = ring.current(NOW)
        assert other.current(NOW) == made
        assert other.holding(made.id)[made.id] == made

    def test_workers_at_once_make_one(self, tmp_path):
        rings = [KekRing(tmp_path / "kek", SECRET) for _ in range(6)]
        with ThreadPoolExecutor(6) as pool:
            assert len({each.id for each in pool.map(lambda ring: ring.current(NOW), rings)}) == 1

    def test_one_that_another_worker_made_is_found(self, ring, tmp_path):
        clock = iter(range(0, 100, 10))
        other = KekRing(tmp_path / "kek", SECRET, monotonic=lambda: float(next(clock)))
        other.current(NOW)
        fresh = ring.current(later(KEK_LIFE_MS))
        assert fresh.id in other.holding(fresh.id)

    def test_strangers_do_not_make_it_read_the_folder_all_the_time(self, ring, monkeypatch):
        ring.current(NOW)
        loads = []
        monkeypatch.setattr(ring, "_load", lambda: loads.append(1))
        for _ in range(50):
            assert bytes(16) not in ring.holding(bytes(16))
        assert not loads

    def test_another_wrapping_secret_opens_nothing(self, ring, tmp_path):
        ring.current(NOW)
        with pytest.raises(HomeError):
            KekRing(tmp_path / "kek", bytes(32)).current(NOW)

    def test_the_current_one_stays(self, ring):
        ring.current(NOW)
        assert ring.destroy_unused(later(KEK_END_MS), ()) == 0

    def test_an_old_one_goes_when_nothing_lives_under_it(self, ring, tmp_path):
        old = ring.current(NOW)
        ring.current(later(KEK_LIFE_MS))
        last_cookie = KEK_LIFE_MS + limits.HANDSHAKE_MS + limits.CLOCK_SKEW_MS
        assert ring.destroy_unused(later(last_cookie - 1), ()) == 0
        assert ring.destroy_unused(later(last_cookie), {old.id}) == 0
        assert ring.destroy_unused(later(last_cookie), ()) == 1
        assert old.id not in ring.holding(old.id)
        assert len(list((tmp_path / "kek").glob("*.cose"))) == 1

    def test_at_the_latest_when_every_session_under_it_must_be_over(self, ring):
        old = ring.current(NOW)
        ring.current(later(KEK_LIFE_MS))
        assert ring.destroy_unused(later(KEK_END_MS), {old.id}) == 1

"""Signing and sealing keys over a rotation: who signs where, until when, and what running workers see of it."""

from __future__ import annotations

import pytest

from crypto_core import limits
from crypto_core.ids import Milliseconds
from repository_worker.epochs import FORMER_MS, LOOK_SECONDS, Epochs
from repository_worker.errors import HomeError
from repository_worker.keys import Home
from tests.support.protocol import NOW

PASSPHRASE = "correct horse"
BROKER = "amqps://broker.example/smr"


def later(milliseconds: int) -> Milliseconds:
    return Milliseconds(NOW + milliseconds)


class World:
    """A home, and a worker that was running before anything was rotated."""

    def __init__(self, folder) -> None:
        self.home = Home(folder)
        self.home.create("Correio", "Organização Exemplo", BROKER, PASSPHRASE, NOW)
        self.opened = self.home.keystore(PASSPHRASE)
        self.seconds = 0.0
        self.worker = self.epochs()
        self.first = self.worker.look().current

    def epochs(self) -> Epochs:
        opened = self.opened
        return Epochs(self.home.folder, opened.repository, opened.wrapping_secret, monotonic=lambda: self.seconds)

    def rotate(self, now=NOW, *, withdraw=False):
        return self.home.reissue(BROKER, PASSPHRASE, now, new_keys=True, withdraw=withdraw)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "repository")


def test_a_running_worker_takes_new_keys_with_their_descriptor(world):
    made = world.rotate()
    standing = world.worker.look()
    assert standing.descriptor == made
    assert standing.signed == world.home.signed_descriptor()
    assert standing.current.signing.public.raw == made.signing_key != world.first.signing.public.raw
    assert standing.current.sealing.public.raw == made.sealing_key


def test_in_a_former_session_the_former_key_signs(world):
    world.rotate()
    assert world.worker.look().of(1) == world.first
    assert world.worker.look().of(2).epoch == 2


def test_a_hello_to_former_keys_is_answered_while_descriptors_are_underway(world):
    world.rotate()
    standing = world.worker.look()
    assert [each.epoch for each in standing.answering(later(limits.HANDSHAKE_MS - 1))] == [2, 1]
    assert [each.epoch for each in standing.answering(later(limits.HANDSHAKE_MS))] == [2]


def test_the_same_keys_in_another_epoch(world):
    world.home.reissue(BROKER, PASSPHRASE, NOW, new_keys=False)
    standing = world.worker.look()
    assert standing.current.signing == world.first.signing
    assert [each.epoch for each in standing.answering(NOW)] == [2, 1]


def test_former_keys_outlive_the_last_session_under_them(world):
    world.rotate()
    last_session_ends = limits.HANDSHAKE_MS + limits.SESSION_MS
    assert world.worker.destroy_over(later(last_session_ends)) == 0
    assert world.worker.look().of(1) == world.first


def test_then_they_are_destroyed(world):
    world.rotate()
    assert world.worker.destroy_over(later(FORMER_MS)) == 1
    assert not (world.home.folder / "epochs" / "1.cose").exists()
    assert world.worker.look().of(1).epoch == 2


def test_withdrawn_keys_are_gone_at_once(world):
    made = world.rotate(withdraw=True)
    assert made.oldest == made.epoch == 2
    assert not (world.home.folder / "epochs" / "1.cose").exists()
    assert [each.epoch for each in world.worker.look().answering(NOW)] == [2]
    assert world.worker.look().of(1).epoch == 2


def test_withdrawn_keys_that_somebody_puts_back_do_not_count(world):
    path = world.home.folder / "epochs" / "1.cose"
    kept = path.read_bytes()
    world.rotate(withdraw=True)
    path.write_bytes(kept)
    assert world.worker.look().of(1).epoch == 2
    assert world.rotate().oldest == 2


def test_keys_that_no_descriptor_names_yet_do_not_count(world):
    world.worker.keep(world.first.__class__(world.first.repository, 2, world.first.signing, world.first.sealing))
    assert world.worker.look().current.epoch == 1
    assert world.worker.look().of(2).epoch == 1


def test_open_sessions_ask_the_disk_once_a_second(world):
    assert world.worker.recent().current.epoch == 1
    world.rotate()
    assert world.worker.recent().current.epoch == 1
    world.seconds += LOOK_SECONDS
    assert world.worker.recent().current.epoch == 2


def test_a_folder_that_is_away_stops_no_open_session(world):
    world.home.descriptor_path.rename(world.home.folder / "away")
    world.seconds += LOOK_SECONDS
    assert world.worker.recent().of(1) == world.first
    with pytest.raises(HomeError):
        world.worker.look()


def test_a_descriptor_without_its_keys_is_refused(world):
    kept = (world.home.folder / "epochs" / "1.cose").read_bytes()
    world.rotate()
    (world.home.folder / "epochs" / "2.cose").unlink()
    with pytest.raises(HomeError, match="epoch 2"):
        world.worker.look()
    (world.home.folder / "epochs" / "2.cose").write_bytes(kept)
    with pytest.raises(HomeError, match="epoch 2"):
        world.worker.look()


def test_under_another_secret_nothing_opens(world):
    stranger = Epochs(world.home.folder, world.opened.repository, bytes(32))
    with pytest.raises(HomeError):
        stranger.look()


def test_no_secret_is_shown(world):
    told = repr(world.worker.look())
    assert world.first.signing.seed.hex() not in told
    assert repr(world.first.signing.seed) not in told

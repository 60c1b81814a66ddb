"""A renewed card, with the real client, repository and cards: who is bound to whom, and what becomes of old letters."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from client.api import Repository
from client.errors import CardProblem, CheckFailed, NotAllowed, NotFound, Usage
from client.settings import Settings
from pki.signers import CardSettings
from pki.test_ca import Holder
from pki.virtual_card import VirtualCard, create_virtual_card
from repository_worker.stack import PrivateStack
from tests.support.library import PIN, Citizen, enrol, make_citizen


class Reader:
    """A card reader for several cards: a folder of tokens into which cards are put, and from which they are taken."""

    def __init__(self, folder: Path, module: Path) -> None:
        self.folder = folder / "reader"
        (self.folder / "tokens").mkdir(parents=True)
        configuration = folder / "reader.conf"
        text = f"directories.tokendir = {self.folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
        configuration.write_text(text, encoding="utf-8")
        self.settings = CardSettings(module, None, {"SOFTHSM2_CONF": str(configuration)})

    def hold(self, *cards: VirtualCard) -> None:
        """These cards, and no others."""
        shutil.rmtree(self.folder / "tokens")
        (self.folder / "tokens").mkdir()
        for card in cards:
            shutil.copytree(card.folder / "tokens", self.folder / "tokens", dirs_exist_ok=True)


class Renewing:
    """A citizen with two cards of one civil number, and a reader that holds the first."""

    def __init__(self, stack: PrivateStack, folder: Path, name: str, number: str) -> None:
        self.stack = stack
        self.old = self.card(folder / "old", name, number)
        self.new = self.card(folder / "new", name, number)
        self.reader = Reader(folder, self.old.module)
        self.reader.hold(self.old)
        made = make_citizen(stack, folder, name, card=self.old)
        self.settings: Settings = replace(made.settings, card=self.reader.settings)
        self.citizen = Citizen(name, self.old, self.settings)
        self.id = enrol(stack, self.citizen)

    def card(self, folder: Path, name: str, number: str) -> VirtualCard:
        return create_virtual_card(self.stack.ca, folder, Holder.named(name, number), key_kind="P-256", pin=PIN)

    def open(self, **changes: object) -> Repository:
        return Repository(replace(self.settings, **changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def maria(stack: PrivateStack, tmp_path_factory: pytest.TempPathFactory) -> Citizen:
    made = make_citizen(stack, tmp_path_factory.mktemp("maria"), "Maria Conceição Reis")
    enrol(stack, made)
    return made


@pytest.fixture
def joao(stack: PrivateStack, tmp_path: Path) -> Renewing:
    return Renewing(stack, tmp_path / "joao", "João Sá", "BI11223344")


def test_with_both_cards(stack: PrivateStack, maria: Citizen, joao: Renewing):
    """The whole story: a letter before, the renewal, what Maria sees, a letter after, and the old one read again."""
    with maria.open() as hers:
        hers.confirm(joao.id, lambda _: True)
        before = hers.send(["João Sá"], b"antes", subject="Antes")
        joao.reader.hold(joao.old, joao.new)
        with joao.open() as his:
            done = his.renew()
            new_id = done.registered.user.hex()
            assert (done.former.hex(), done.both_cards, done.changed) == (joao.id, True, True)

        with pytest.raises(NotAllowed, match=f"smr confirm {new_id}"):
            hers.send(["João Sá"], b"?")
        with pytest.raises(NotAllowed, match="was renewed"):
            hers.confirm(joao.id, lambda _: True)
        seen = []
        hers.confirm(new_id, lambda person: seen.append(person) or True)
        (former,) = seen[0].former
        assert (former.user.hex(), former.name, former.confirmed, former.both_cards) == (joao.id, "João Sá", True, True)
        after = hers.send(["João Sá"], b"depois")
        assert [each.user.hex() for each in after.to] == [new_id]
        assert [each.user.hex() for each in hers.history("João Sá").former] == [joao.id]
        assert hers.history(joao.id).user.hex() == new_id

    joao.reader.hold(joao.new)  # the former card is handed in
    with joao.open() as his:
        (letter,) = his.new()
        assert his.read(letter.letter_id).body == b"depois"
    with joao.open(former=joao.id[:10]) as his:
        (letter,) = his.letters()
        assert letter.letter_id == before.letter_id
        read = his.read(letter.letter_id)
        assert (read.body, read.receipt_possible) == (b"antes", False)
        with pytest.raises(NotAllowed):
            his.send([new_id], b"with a card that is no longer mine")
    with joao.open(former="00") as his, pytest.raises(Usage, match=joao.id):
        his.letters()


def test_with_the_new_card_alone_and_a_revoked_former_one(stack: PrivateStack, maria: Citizen, joao: Renewing):
    for serial in joao.old.serials.values():
        stack.ca.revoke(serial)
    joao.reader.hold(joao.new)
    asked = []
    with joao.open() as his:
        done = his.renew(former_card=lambda: asked.append(1) or False)
        assert (done.both_cards, asked) == (False, [1])
        # Cut off before this home knew: the same command goes on, and asks for nothing any more.
        his._context.home.pass_on(done.registered.user, done.former)
        again = his.renew()
        assert (again.changed, again.registered.user) == (False, done.registered.user)
    with maria.open() as hers:
        (former,) = hers.confirm(done.registered.user.hex(), lambda _: True).former
        assert (former.user.hex(), former.both_cards, former.confirmed) == (joao.id, False, False)


def test_two_renewals_in_a_row(stack: PrivateStack, maria: Citizen, joao: Renewing, tmp_path: Path):
    third = joao.card(tmp_path / "third", "João Sá", "BI11223344")
    ids = [joao.id]
    with maria.open() as hers:
        hers.confirm(joao.id, lambda _: True)
        for cards in ((joao.old, joao.new), (joao.new, third)):
            joao.reader.hold(*cards)
            with joao.open() as his:
                ids.append(his.renew().registered.user.hex())
        with pytest.raises(NotAllowed, match=f"smr confirm {ids[2]}"):
            hers.send([joao.id], b"?")
        assert [each.user.hex() for each in hers.history(joao.id).former] == [ids[1], ids[0]]
    with joao.open(former=ids[0]) as his:
        assert his.letters() == ()


def test_who_cannot_renew(stack: PrivateStack, joao: Renewing, tmp_path: Path):
    other = joao.card(tmp_path / "other", "João Sá", "BI99887766")
    with joao.open() as his:
        with pytest.raises(CardProblem, match="only card here"):
            his.renew()
        joao.reader.hold(joao.old, other)
        with pytest.raises(CheckFailed, match="different citizens"):
            his.renew()
        joao.reader.hold(joao.old, joao.new, other)
        with pytest.raises(CardProblem, match="several cards"):
            his.renew()
        joao.reader.hold(joao.new)
        with pytest.raises(NotAllowed, match="smr renew"):
            his.register()
        with pytest.raises(NotFound):
            his.renew("00" * 28)
        with pytest.raises(CardProblem, match="former card is in no reader"):
            his.renew(former_card=lambda: True)
        joao.reader.hold(joao.old)
        assert his.show_session() is None or his.show_session().user.hex() == joao.id

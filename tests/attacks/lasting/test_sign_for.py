"""Letters that open against a signature: reading without signing, signing for junk, and choosing twice."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import replace

import bson
import pytest

from crypto_core import choice, commands, delivery, ids, records, sealed, sign_for
from crypto_core.choice import Choice
from crypto_core.commands import ChoiceResult, ErrorCode, RefusedByRepository
from crypto_core.documents import Party
from crypto_core.errors import BindingMismatch, DecryptionFailed, Malformed
from crypto_core.ids import Digest, Milliseconds
from crypto_core.mailbox import EntryKind
from pki import cades
from pki.tokens.profiles import CardKeyUse
from tests.support.wire import HOUR_MS, now_ms

BODY = "Está convocado para o dia 3.".encode()
#: How long a slip waits in tests of its end, at first; doubled while the machine is slower than that. Milliseconds.
SHORT_MS = 1500
LONGEST_MS = 60_000


@pytest.fixture
def sent(people, maria, joao, bruno):
    """A letter that Maria wants João and Bruno to sign for."""
    command = people[0].to_sign(maria, [joao, bruno], BODY)
    return people[0].ask(command, commands.SendResult).letter


def everything_stored(world):
    """All documents of the database, as one text of bytes."""
    storage = world.stack.storage()
    try:
        names = storage._database.list_collection_names()
        return b"".join(bson.encode(each) for name in names for each in storage._database[name].find())
    finally:
        storage.close()


def with_line(**changes):
    """Makes another slip: with other values in its first line."""
    return lambda slip: replace(slip, lines=(replace(slip.lines[0], **changes), *slip.lines[1:]))


def status(wire, letter):
    return wire.ask(commands.Status(letter), commands.StatusResult)


def kinds(wire, letter):
    """What the mailbox records about one letter."""
    entries = wire.ask(commands.All(0, False), commands.BoxResult).entries
    return [each.entry.kind for each in entries if each.entry.routing.letter == letter]


def listed(wire, command, letter):
    """The entry of one letter in a list, or none."""
    entries = wire.ask(command, commands.BoxResult).entries
    return next((each for each in entries if each.entry.routing.letter == letter and each.view), None)


def choose_at_once(world, citizen, choices):
    """Each choice from a device of its own, all at the same moment: what each was answered."""
    ends = [None] * len(choices)
    ready = threading.Barrier(len(choices), timeout=LONGEST_MS / 1000)

    def device(number):
        with world.wire() as wire:
            wire.login(citizen)
            ready.wait()
            ends[number] = wire.ask(choices[number], ChoiceResult)

    threads = [threading.Thread(target=device, args=(number,)) for number in range(len(choices))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


def send_short(wire, sender, to):
    """A letter whose slip ends very soon, once it was accepted: its id, and when it ends."""
    for_ms = SHORT_MS
    while True:
        expires = now_ms() + for_ms
        try:
            return wire.ask(wire.to_sign(sender, to, BODY, expires), commands.SendResult).letter, expires
        except (RefusedByRepository, Malformed):
            for_ms *= 2
            assert for_ms <= LONGEST_MS, "the repository takes no letter in time"


def wait_until(wire, moment):
    """Until the clock of this machine, which is the workers' too, has passed a moment."""
    deadline = time.monotonic() + LONGEST_MS / 1000
    while now_ms() <= moment:
        assert time.monotonic() < deadline
        wire.connection.sleep(0.02)


class TestSignedFor:
    def test_it_opens_after_the_acceptance_is_stored(self, people, sent, maria, joao):
        first, second, _ = people
        done = second.ask(second.accept(joao, maria, sent), ChoiceResult)
        assert done.choice is Choice.ACCEPTED
        assert second.open_signed(joao, maria, sent) == BODY
        (entry,) = status(first, sent).choices
        assert (entry.entry.kind, entry.choice.choice) == (EntryKind.ACCEPTANCE, Choice.ACCEPTED)
        assert entry.object_hash == entry.entry.object
        assert kinds(second, sent) == [EntryKind.RECEIVED, EntryKind.ACCEPTANCE_SENT]
        assert kinds(first, sent) == [EntryKind.SENT, EntryKind.ACCEPTANCE]

    def test_the_entry_of_the_letter_names_its_slip(self, people, sent, maria):
        for wire in people[1:]:
            entry, *_ = wire.slip(maria, sent)
            assert entry.object_hash == entry.entry.object
            assert entry.view.object_hash != entry.entry.object

    def test_a_reading_receipt_comes_after_it(self, people, sent, maria, joao):
        _, second, _ = people
        second.ask(second.accept(joao, maria, sent), ChoiceResult)
        assert not listed(second, commands.New(0), sent).read
        second.open_signed(joao, maria, sent)
        assert listed(second, commands.New(0), sent) is None
        assert listed(second, commands.All(0, True), sent).slip.release

    def test_a_refusal_with_its_reason_reaches_the_sender_alone(self, people, sent, maria, joao):
        first, second, third = people
        done = second.ask(second.refuse(joao, maria, sent, "Não conheço a remetente."), ChoiceResult)
        assert (done.choice, done.release) == (Choice.REFUSED, None)
        (entry,) = status(first, sent).choices
        assert entry.object_hash == entry.entry.object
        keys = {maria.sealing.public.key_id: maria.sealing}
        repository = first.descriptor.repository
        found = choice.open_reason(entry.view, entry.choice.signed, repository, maria.user, keys).text
        assert found == "Não conheço a remetente."
        assert listed(second, commands.New(0), sent) is None
        assert listed(third, commands.New(0), sent) is not None

    def test_the_repository_gives_evidence_of_it(self, people, sent, maria, joao):
        """For the sender of everybody, for each recipient of their own."""
        first, second, third = people
        second.ask(second.accept(joao, maria, sent), ChoiceResult)
        signed = status(first, sent).choices[0].choice.signed
        asked = commands.Evidence(maria.user, sent)
        shown = {}
        for wire in people:
            document = wire.ask(asked, commands.EvidenceResult).document
            shown[wire] = delivery.decode(document, first.descriptor.repository).entries
        assert [each.kind.value for each in shown[first]] == ["sent", "acceptance", "received", "received"]
        assert [each.kind.value for each in shown[second]] == ["received", "acceptance-sent"]
        assert [each.kind.value for each in shown[third]] == ["received"]
        accepted = shown[first][1]
        assert (accepted.document, accepted.signature) == (signed.digest, signed.signature_digest)
        assert len({each.slip for each in (*shown[first], *shown[second], *shown[third])}) == 1
        assert accepted.slip == status(first, sent).letter.slip.slip.digest

    def test_the_senders_copy_opens_at_once(self, people, sent, maria):
        found = people[0].ask(commands.Recv(maria.user, sent), commands.RecvResult)
        keys = {maria.sealing.public.key_id: maria.sealing}
        head = sign_for.open_copy(found.entry.view, people[0].descriptor.repository, maria.user, keys)
        assert head.subject == "Olá"
        assert found.body is not None


class TestReadingWithoutSigning:
    def test_neither_body_nor_share_is_given_out_before(self, people, sent, maria, joao):
        _, second, _ = people
        found = second.ask(commands.Recv(maria.user, sent), commands.RecvResult)
        assert (found.body, found.entry.slip.release, found.entry.read) == (None, None, False)
        for command in (commands.New(0), commands.All(0, True)):
            assert listed(second, command, sent).slip.release is None
        keys = {joao.sealing.public.key_id: joao.sealing}
        with pytest.raises(BindingMismatch):
            found.entry.view.open(sealed.SIGN_FOR, second.descriptor.repository, joao.user, keys)

    def test_a_copy_of_the_database_is_not_enough(self, people, world, maria, joao):
        """A recipient who has it knows the first share and the ciphertext, and of the second share nothing."""
        first, second, _ = people
        command = first.to_sign(maria, [joao], BODY)
        letter = first.ask(command, commands.SendResult).letter
        (share,) = command.to_sign.shares
        entry, _, slip = second.slip(maria, letter)
        own = sign_for.first_share(entry.view, slip, joao.user, {joao.sealing.public.key_id: joao.sealing})
        assert sign_for.open_line(slip, joao.user, own, share)
        found = everything_stored(world)
        assert command.head[-64:] in found or entry.view.ciphertext in found
        assert share not in found
        assert own not in found
        storage = world.stack.storage()
        stored = storage.letter(joao.user, maria.user, letter)
        storage.close()
        for secret in (bytes(32), own, first.descriptor.signing_key):
            with pytest.raises(DecryptionFailed):
                records.open_share(secret, letter, maria.user, joao.user, stored.entry.slip.share)

    def test_who_got_no_such_letter_signs_for_nothing(self, people, sent, world, maria, joao):
        _, second, _ = people
        accept = second.accept(joao, maria, sent)
        with world.wire() as wire:
            stranger = world.citizen("Rui Sá")
            wire.register(stranger)
            wire.login(stranger)
            assert wire.refused(accept) is ErrorCode.NOT_FOUND
            assert wire.refused(commands.Recv(maria.user, sent)) is ErrorCode.NOT_FOUND


class TestTheWrongSlip:
    def test_accepting_one_slip_and_asking_for_the_share_of_another(self, people, sent, maria, joao):
        first, second, _ = people
        other = first.ask(first.to_sign(maria, [joao], b"outra"), commands.SendResult).letter
        second.ask(second.accept(joao, maria, other), ChoiceResult)
        assert second.ask(commands.Recv(maria.user, sent), commands.RecvResult).entry.slip.release is None
        _, view, _ = second.slip(maria, other)
        for changes in ({"letter": sent}, {"slip": view.slip.digest}):
            assert second.refused(second.accept(joao, maria, sent if "slip" in changes else other, **changes)) is (
                ErrorCode.NOT_ALLOWED
            )
        assert second.ask(commands.Recv(maria.user, sent), commands.RecvResult).entry.slip.release is None

    def test_the_acceptance_of_another_recipient(self, people, sent, maria, joao, bruno):
        _, second, third = people
        assert third.refused(second.accept(joao, maria, sent)) is ErrorCode.NOT_ALLOWED
        for_bruno = third.party(bruno)
        assert second.refused(second.accept(joao, maria, sent, reader=for_bruno)) is ErrorCode.NOT_ALLOWED
        assert not status(people[0], sent).choices

    def test_the_share_of_another_recipient(self, people, sent, maria, joao, bruno):
        _, second, third = people
        given = third.ask(third.accept(bruno, maria, sent), ChoiceResult)
        entry, view, slip = second.slip(maria, sent)
        with pytest.raises(BindingMismatch):
            sign_for.read_release(given.release, second.descriptor.verify_key, slip, view.slip.digest, joao.user)
        brunos = sign_for.read_release(
            given.release, second.descriptor.verify_key, slip, view.slip.digest, bruno.user
        ).share
        with pytest.raises(BindingMismatch, match="share 2"):
            keys = {joao.sealing.public.key_id: joao.sealing}
            sign_for.open_head(entry.view, slip, joao.user, keys, brunos)

    def test_a_signature_of_another_card(self, people, sent, world, maria, joao):
        _, second, _ = people
        honest = second.accept(joao, maria, sent)
        thief = world.citizen("João Sá")
        signed = thief.signed(honest.acceptance.document, CardKeyUse.SIGNATURE)
        assert second.refused(commands.Accept(signed, None)) is ErrorCode.SIGNATURE
        with_the_other_key = joao.signed(honest.acceptance.document, CardKeyUse.AUTHENTICATION)
        assert second.refused(commands.Accept(with_the_other_key, None)) is ErrorCode.SIGNATURE

    def test_a_registration_that_is_not_the_readers(self, people, sent, maria, joao):
        _, second, _ = people
        party = Party(joao.user, Digest(bytes(32)))
        assert second.refused(second.accept(joao, maria, sent, reader=party)) is ErrorCode.CONFLICT

    def test_a_document_of_another_day(self, people, sent, maria, joao):
        _, second, _ = people
        old = Milliseconds(now_ms() - HOUR_MS)
        assert second.refused(second.accept(joao, maria, sent, time=old)) is ErrorCode.CLOCK

    def test_a_revoked_card_signs_for_nothing(self, people, world, maria):
        first, _, _ = people
        rui = world.citizen("Rui Revogado")
        with world.wire() as wire:
            wire.register(rui)
            wire.login(rui)
            sent = first.ask(first.to_sign(maria, [rui], BODY), commands.SendResult).letter
            accept = wire.accept(rui, maria, sent)
            world.ca.revoke(rui.certificate(CardKeyUse.SIGNATURE).serial_number)
            assert wire.refused(accept) is ErrorCode.CERTIFICATE
        assert not status(first, sent).choices

    def test_a_refusal_in_the_name_of_another(self, people, sent, maria, joao):
        _, second, third = people
        assert third.refused(second.refuse(joao, maria, sent, "Não.")) is ErrorCode.NOT_ALLOWED

    def test_a_plain_letter_is_not_signed_for(self, people, sent, maria, joao):
        first, second, _ = people
        plain = first.send(maria, [joao], b"texto").letter
        assert second.refused(second.accept(joao, maria, sent, letter=plain)) is ErrorCode.NOT_ALLOWED

    def test_nobody_signs_for_a_text_that_is_gone(self, people, sent, world, maria, joao):
        _, second, _ = people
        accept = second.accept(joao, maria, sent)
        storage = world.stack.storage()
        gone = {"$unset": {"body": 1}, "$set": {"swept": now_ms()}}
        assert storage._database.accepted.update_one({"letter": sent, "slip": {"$exists": True}}, gone).modified_count
        storage.close()
        assert second.refused(accept) is ErrorCode.NOT_FOUND
        assert not status(people[0], sent).choices


class TestOnce:
    def test_an_acceptance_again_has_an_equivalent_answer(self, people, sent, maria, joao):
        first, second, _ = people
        accept = second.accept(joao, maria, sent)
        one, two = second.ask(accept, ChoiceResult), second.ask(accept, ChoiceResult)
        second.login(joao)
        three = second.ask(accept, ChoiceResult)
        another = second.ask(second.accept(joao, maria, sent), ChoiceResult)
        assert {each.accepted for each in (one, two, three, another)} == {one.accepted}
        assert {each.choice for each in (one, two, three, another)} == {Choice.ACCEPTED}
        assert kinds(first, sent) == [EntryKind.SENT, EntryKind.ACCEPTANCE]

    def test_two_devices_at_once(self, people, sent, world, maria, joao):
        first, second, _ = people
        choices = [second.accept(joao, maria, sent, time=Milliseconds(now_ms() - each)) for each in range(4)]
        ends = choose_at_once(world, joao, choices)
        assert {end.choice for end in ends} == {Choice.ACCEPTED}
        assert len({end.accepted for end in ends}) == 1
        assert all(end.release for end in ends)
        assert kinds(first, sent) == [EntryKind.SENT, EntryKind.ACCEPTANCE]

    def test_accepting_and_refusing_at_once(self, people, sent, world, maria, joao):
        first, second, _ = people
        ends = choose_at_once(world, joao, [second.accept(joao, maria, sent), second.refuse(joao, maria, sent)] * 2)
        (stands,) = {end.choice for end in ends}
        assert all((end.release is not None) == (stands is Choice.ACCEPTED) for end in ends)
        (entry,) = status(first, sent).choices
        assert entry.choice.choice is stands

    def test_a_refusal_after_an_acceptance_changes_nothing(self, people, sent, maria, joao):
        _, second, _ = people
        second.ask(second.accept(joao, maria, sent), ChoiceResult)
        assert second.ask(second.refuse(joao, maria, sent), ChoiceResult).choice is Choice.ACCEPTED
        assert second.open_signed(joao, maria, sent) == BODY

    def test_an_acceptance_after_a_refusal_releases_nothing(self, people, sent, maria, joao):
        _, second, _ = people
        accept = second.accept(joao, maria, sent)
        second.ask(second.refuse(joao, maria, sent), ChoiceResult)
        end = second.ask(accept, ChoiceResult)
        assert (end.choice, end.release) == (Choice.REFUSED, None)
        found = second.ask(commands.Recv(maria.user, sent), commands.RecvResult)
        assert (found.body, found.entry.slip.release, found.entry.slip.choice) == (None, None, Choice.REFUSED)

    def test_an_acceptance_of_one_is_none_of_another(self, people, sent, maria, joao, bruno):
        first, second, third = people
        second.ask(second.accept(joao, maria, sent), ChoiceResult)
        third.ask(third.refuse(bruno, maria, sent), ChoiceResult)
        found = {each.entry.routing.author: each.choice.choice for each in status(first, sent).choices}
        assert found == {joao.user: Choice.ACCEPTED, bruno.user: Choice.REFUSED}


class TestItsEnd:
    def test_an_acceptance_after_it_releases_nothing(self, people, maria, joao, bruno):
        first, second, third = people
        sent, expires = send_short(first, maria, [joao, bruno])
        accept = second.accept(joao, maria, sent)
        wait_until(second, expires)
        end = second.ask(accept, ChoiceResult)
        assert (end.choice, end.release) == (Choice.EXPIRED, None)
        assert third.ask(third.refuse(bruno, maria, sent), ChoiceResult).choice is Choice.EXPIRED
        assert second.ask(commands.Recv(maria.user, sent), commands.RecvResult).body is None
        assert kinds(second, sent) == [EntryKind.RECEIVED, EntryKind.EXPIRY]

    def test_once_the_sender_was_told_it_stands(self, people, maria, joao, bruno):
        first, second, _ = people
        sent, expires = send_short(first, maria, [joao, bruno])
        accept = second.accept(joao, maria, sent)
        wait_until(first, expires)
        for _ in range(2):
            found = status(first, sent)
            assert [each.choice.choice for each in found.choices] == [Choice.EXPIRED, Choice.EXPIRED]
            assert all(each.object_hash == each.entry.object for each in found.choices)
        assert second.ask(accept, ChoiceResult).choice is Choice.EXPIRED
        assert listed(second, commands.New(0), sent) is None

    def test_what_was_accepted_in_time_stays_so(self, people, maria, joao, bruno):
        first, second, _ = people
        sent, expires = send_short(first, maria, [joao, bruno])
        end = second.ask(second.accept(joao, maria, sent), ChoiceResult)
        wait_until(first, expires)
        found = {each.entry.routing.author: each.choice.choice for each in status(first, sent).choices}
        assert found == {joao.user: end.choice, bruno.user: Choice.EXPIRED}

    def test_a_slip_that_has_ended_already_is_not_taken(self, people, maria, joao):
        first, _, _ = people
        command = first.to_sign(maria, [joao], BODY, edit=lambda slip: replace(slip, expires=slip.time + 1))
        wait_until(first, now_ms() + 2)
        assert first.refused(command) is ErrorCode.NOT_ALLOWED


class TestADishonestSender:
    def test_second_shares_that_were_not_signed_for(self, people, maria, joao, bruno):
        first, second, _ = people
        honest = first.to_sign(maria, [joao, bruno], BODY)
        one, two = honest.to_sign.shares
        for shares in ((two, one), (one, secrets.token_bytes(32)), (one,)):
            asked = commands.ToSign(honest.to_sign.slip, shares)
            assert first.refused(commands.Send(honest.head, honest.body, asked)) in (
                ErrorCode.NOT_ALLOWED,
                ErrorCode.MALFORMED,
            )
        letter = sealed.read(sealed.SIGN_FOR, honest.head).routing.letter
        assert listed(second, commands.New(0), letter) is None

    def test_a_slip_of_another_letter_or_for_other_people(self, people, maria, joao, bruno):
        first, _, _ = people
        one, two = first.to_sign(maria, [joao], BODY), first.to_sign(maria, [joao, bruno], BODY)
        assert first.refused(commands.Send(one.head, one.body, two.to_sign)) is ErrorCode.NOT_ALLOWED
        for changes in ({"letter": ids.new_letter_id()}, {"object": Digest(bytes(32))}, {"commitment": bytes(32)}):
            other = first.to_sign(maria, [joao], BODY, edit=lambda slip, changes=changes: replace(slip, **changes))
            assert first.refused(other) is ErrorCode.NOT_ALLOWED

    def test_without_a_slip_or_with_one_for_a_plain_letter(self, people, maria, joao):
        first, _, _ = people
        made = first.to_sign(maria, [joao], BODY)
        assert first.refused(commands.Send(made.head, made.body)) is ErrorCode.MALFORMED
        plain = first.letter(maria, [joao], BODY)
        assert first.refused(commands.Send(plain.head, plain.body, made.to_sign)) is ErrorCode.MALFORMED

    def test_a_slip_that_another_card_signed(self, people, world, maria, joao):
        first, _, _ = people
        made = first.to_sign(maria, [joao], BODY)
        other = world.citizen("Maria Conceição Reis")
        signed = other.signed(made.to_sign.slip.document, CardKeyUse.SIGNATURE)
        slip = sign_for.SignedSlip(signed.document, signed.signature, None)
        asked = commands.ToSign(slip, made.to_sign.shares)
        assert first.refused(commands.Send(made.head, made.body, asked)) is ErrorCode.SIGNATURE

    def test_a_first_share_that_was_not_signed_for_is_found_before_signing(self, people, maria, joao):
        first, second, _ = people
        cheated = first.to_sign(maria, [joao], BODY, edit=with_line(share_1=Digest(bytes(32))))
        letter = first.ask(cheated, commands.SendResult).letter
        entry, _, slip = second.slip(maria, letter)
        with pytest.raises(BindingMismatch, match="share 1"):
            sign_for.first_share(entry.view, slip, joao.user, {joao.sealing.public.key_id: joao.sealing})

    def test_shares_that_are_as_signed_and_open_nothing_prove_it(self, people, maria, joao):
        """What the reader has then convinces anybody: a slip that the sender's card signed, and both of its shares."""
        first, second, _ = people
        cheated = first.to_sign(maria, [joao], BODY, edit=with_line(wrapped_secret=bytes(48)))
        letter = first.ask(cheated, commands.SendResult).letter
        entry, view, slip = second.slip(maria, letter)
        own = sign_for.first_share(entry.view, slip, joao.user, {joao.sealing.public.key_id: joao.sealing})
        given = second.ask(second.accept(joao, maria, letter), ChoiceResult).release
        release = sign_for.read_release(given, second.descriptor.verify_key, slip, view.slip.digest, joao.user)
        with pytest.raises(DecryptionFailed):
            sign_for.open_line(slip, joao.user, own, release.share)
        cades.verify_document(
            view.slip.document, view.slip.signature, certificate=maria.certificate(CardKeyUse.SIGNATURE)
        )

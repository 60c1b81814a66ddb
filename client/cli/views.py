"""Each result as people and as programs see it."""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from client.cli.screen import Screen, json_moment, moment
from client.commands.box import ListedLetter, Signature
from client.commands.history import By, Event, LetterHistory
from client.commands.proof import Contradiction, Judgement, KeptAlarm, Proof
from client.commands.status import ChoiceStatus, LetterStatus, ReceiptStatus, Signing, Verdict
from client.errors import Check, ClientError, ExitCode
from crypto_core.moments import to_datetime
from pki.display import safe_text, shown_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from client.commands.block import BlockedPerson
    from client.commands.card import CardReport, CardsReport
    from client.commands.choose import Refused, SignatureRequest
    from client.commands.delete import Deleted
    from client.commands.doctor import Finding
    from client.commands.export import Exported
    from client.commands.init import Enrolled, Installed
    from client.commands.key import KeySummary
    from client.commands.people import FormerCard, FoundPerson
    from client.commands.proof import Statement
    from client.commands.read import AttachedFile, ReadLetter
    from client.commands.receipt import ReceiptSent
    from client.commands.register import Registered
    from client.commands.renew import Renewed
    from client.commands.send import Sent
    from client.commands.thread import ThreadLetter
    from client.commands.watch import Arrival
    from client.session import SessionInfo
    from evidence_package.verdict import Report


@dataclass(frozen=True, slots=True)
class View:
    """A result: as JSON, as text, and what the program ends with."""

    json: dict[str, Any]
    show: Callable[[Screen], None]
    exit_code: ExitCode = ExitCode.OK


def installed(found: Installed, trust: str) -> View:
    def show(screen: Screen) -> None:
        screen.line(f"{screen.mark(True)} This installation is ready for {shown_name(found.repository_name)}.")
        screen.pairs([("installation", found.installation), ("operator root", found.operator_root)])
        screen.line(f"Next: import the state's roots into {trust} (smr-pki trust import), then smr register.")
        screen.line("Where the operator enrols installations: give them its name, then smr init --enrolment FILE.")

    return View(
        {
            "app_key": found.app_key,
            "installation": found.installation,
            "repository_id": found.repository_id,
            "repository_name": found.repository_name,
            "operator_root": found.operator_root,
            "descriptor_expires": json_moment(to_datetime(found.descriptor_expires)),
        },
        show,
    )


def enrolled(found: Enrolled) -> View:
    def show(screen: Screen) -> None:
        screen.line(f"{screen.mark(True)} This installation has its account at the broker.")
        screen.pairs([("installation", found.installation)])
        screen.line("The file holds the account's password: destroy it. Next: smr register.")

    return View({"installation": found.installation, "repository_id": found.repository_id}, show)


def script(shell: str, text: str) -> View:
    """A file of this program, for a shell to read."""
    return View({"shell": shell, "script": text}, lambda screen: screen.line(text.removesuffix("\n")))


def left() -> View:
    """The mailbox was left: what it showed is gone from the terminal."""
    return View({}, lambda _: None)


def findings(found: Sequence[Finding]) -> View:
    """An examination: each line with a mark, and under a bad one what to do."""
    bad = sum(not each.ok for each in found)

    def show(screen: Screen) -> None:
        for each in found:
            screen.line(f"{screen.mark(each.ok)} {safe_text(each.check)}: {safe_text(each.detail)}")
            if each.action:
                screen.line(f"    {safe_text(each.action)}")
        screen.line("All is well." if not bad else f"{bad} of {len(found)} checks failed.")

    data = {"ok": not bad, "checks": [asdict(each) for each in found]}
    return View(data, show, ExitCode.FAILED if bad else ExitCode.OK)


def cards(found: CardsReport) -> View:
    def show(screen: Screen) -> None:
        if not found.cards:
            screen.line("There is no card in any reader.")
        for card in found.cards:
            _show_card(screen, card)
        for name in found.empty_readers:
            screen.line(f"{safe_text(name)}: no card")

    data = {"cards": [_card_json(card) for card in found.cards], "empty_readers": list(found.empty_readers)}
    return View(data, show)


def _show_card(screen: Screen, card: CardReport) -> None:
    screen.line(f"{safe_text(card.label)} in {safe_text(card.reader)} (slot {card.slot})")
    lines = [("card", safe_text(card.kind)), ("PIN", card.pin)]
    if card.user is not None:
        yours = ", yours" if card.own else ""
        holder = f"{safe_text(card.holder)} ({safe_text(card.civil_number)}){yours}"
        lines = [("holder", holder), ("id", card.user.hex()), *lines]
    screen.pairs([line for line in lines if line[1]])
    if card.problem:
        screen.line(f"  {screen.mark(False)} {safe_text(card.problem)}")
    for key in card.keys:
        good = key.verdict == "valid"
        detail = f": {safe_text(key.detail)}" if key.detail and not good else ""
        how = f", signs with {key.mechanism}" if key.mechanism else ""
        screen.line(
            f"  {screen.mark(good)} {key.use} key, {key.kind}{how}, until {key.valid_until:%Y-%m-%d}, "
            f"{key.verdict}{detail}"
        )
        screen.line(f"      certificate SHA-256 {key.sha256}")


def registered(found: Registered) -> View:
    def show(screen: Screen) -> None:
        state = "is registered now" if found.changed else "was registered already"
        key = "signature" if found.signs_with_signature_key else "authentication"
        screen.line(f"{screen.mark(True)} {shown_name(found.name)} {state}, revision {found.revision}.")
        screen.pairs([("id", found.user.hex()), ("letters are signed with", f"the card's {key} key")])

    return View(
        {
            "user_id": found.user.hex(),
            "name": found.name,
            "revision": found.revision,
            "accepted_at": json_moment(to_datetime(found.accepted)),
            "signs_with": "signature" if found.signs_with_signature_key else "authentication",
            "changed": found.changed,
        },
        show,
    )


def renewed(found: Renewed) -> View:
    how = "both cards have signed that" if found.both_cards else "by the civil number, the former card is gone"

    def show(screen: Screen) -> None:
        state = "renews" if found.changed else "renewed already"
        screen.line(f"{screen.mark(True)} Your new card {state} the card {found.former.hex()[:12]}...: {how}.")
        screen.pairs([("id", found.registered.user.hex()), ("before", found.former.hex())])
        screen.line("Others write to your new card from now on; they are asked to confirm it once.")
        screen.line(f"Letters to the card before: smr list --former {found.former.hex()[:12]}")

    data = {
        "user_id": found.registered.user.hex(),
        "name": found.registered.name,
        "revision": found.registered.revision,
        "former": found.former.hex(),
        "former_name": found.former_name,
        "both_cards": found.both_cards,
        "changed": found.changed,
    }
    return View(data, show)


def history(found: FoundPerson) -> View:
    def show(screen: Screen) -> None:
        screen.pairs([(name, safe_text(value)) for name, value in person_lines(found)])
        if not found.former:
            screen.line("This is the first card: it renews none.")

    return View(person_json(found), show)


_EVENTS = {
    Event.SUBMISSION_ACCEPTANCE: "accepted by the repository",
    Event.SUBMISSION_REJECTION: "not taken by the repository",
    Event.NOTIFICATION_FOR_ACCEPTANCE: "asked for a signature",
    Event.CONSIGNMENT_ACCEPTANCE: "signed for",
    Event.CONSIGNMENT_REJECTION: "refused",
    Event.ACCEPTANCE_REJECTION_EXPIRY: "not signed for in time",
    Event.CONTENT_CONSIGNMENT: "delivered",
    Event.CONTENT_HANDOVER: "read",
}
_STANDS_FOR = {By.REPOSITORY: "the repository signed", By.CARD: "their Citizen Card signed"}


def letter_history(found: LetterHistory) -> View:
    def show(screen: Screen) -> None:
        screen.line(
            f"  Letter {found.letter_id}: {safe_text(found.subject)}" if found.mine else f"  Letter {found.letter_id}"
        )
        for each in found.moments:
            who = "you" if each.by is By.CARD and not found.mine else shown_name(each.who_name)
            what = _EVENTS[each.event] + (f" by {who}" if each.by is By.CARD and who else f", {who}" if who else "")
            signed = "your Citizen Card signed" if who == "you" else _STANDS_FOR[each.by]
            screen.line(f"  {screen.mark(each.good)} {moment(each.at)}  {what}  ({signed})", "" if each.good else "red")
            if each.detail:
                screen.line(f"      {safe_text(each.detail)}")
        for user in found.waiting:
            until = f" (until {moment(found.expires_at)})" if found.expires_at else ""
            screen.line(f"  {screen.mark(None)} not signed for yet by {user.hex()[:12]}...{until}")
        if found.deleted_at:
            screen.line(f"  You deleted it from your mailbox on {moment(found.deleted_at)}.")

    data = {
        "letter_id": found.letter_id,
        "mine": found.mine,
        "subject": found.subject or None,
        "events": [
            {
                "event": each.event.value,
                "at": json_moment(each.at),
                "who": each.who.hex(),
                "who_name": each.who_name or None,
                "by": each.by.value,
                "verified": each.good,
                "detail": each.detail or None,
            }
            for each in found.moments
        ],
        "waiting": [user.hex() for user in found.waiting],
        "expires_at": json_moment(found.expires_at),
        "deleted_at": json_moment(found.deleted_at),
    }
    good = all(each.good for each in found.moments)
    return View(data, show, ExitCode.OK if good else ExitCode.CHECK_FAILED)


def people(found: Sequence[FoundPerson]) -> View:
    def show(screen: Screen) -> None:
        if not found:
            screen.line("Nobody was found.")
            return
        rows = [
            (
                shown_name(person.name) or "(not verified)",
                person.civil_number,
                person.user.hex(),
                f"{screen.mark(person.verified)} {'verified' if person.verified else 'refused: ' + person.reason}",
                "yes" if person.confirmed else "no",
            )
            for person in found
        ]
        screen.table(("name", "civil number", "id", "record", "confirmed"), rows)

    return View({"people": [person_json(person) for person in found]}, show)


def person(found: FoundPerson) -> View:
    def show(screen: Screen) -> None:
        screen.line(f"{screen.mark(True)} {shown_name(found.name)} is confirmed: the name can be used from now on.")

    return View(person_json(found), show)


def blocked(found: Sequence[BlockedPerson]) -> View:
    def show(screen: Screen) -> None:
        if not found:
            screen.line("You block nobody.")
        for each in found:
            who = f"{shown_name(each.name) or '(never looked up here)'}  {each.user.hex()}"
            screen.line(f"{screen.mark(True)} {who}  {'is blocked' if each.blocked else 'is not blocked any more'}")

    people = [{"user_id": each.user.hex(), "name": each.name or None, "blocked": each.blocked} for each in found]
    return View({"people": people}, show)


def person_lines(found: FoundPerson) -> list[tuple[str, str]]:
    """The certificate's details, for a person to compare."""
    return [
        ("name", shown_name(found.name)),
        ("civil number", found.civil_number),
        ("issued by", found.issuer),
        ("valid until", f"{found.valid_until:%Y-%m-%d}" if found.valid_until else ""),
        ("key", found.key_kind),
        ("registered", moment(found.registered) if found.registered else ""),
        ("id", found.user.hex()),
        *(("renews", _former_line(each)) for each in found.former),
    ]


def _former_line(card: FormerCard) -> str:
    how = "both cards signed it" if card.both_cards else "same civil number, same root; the former card was gone"
    name = f"{card.name}, whom you confirmed," if card.confirmed else card.name
    return (
        f"{name} {card.user.hex()[:12]}..., registered {moment(card.registered)}, until {moment(card.renewed)}: {how}"
    )


def person_json(found: FoundPerson) -> dict[str, Any]:
    return {
        "user_id": found.user.hex(),
        "name": found.name or None,
        "civil_number": found.civil_number or None,
        "verified": found.verified,
        "confirmed": found.confirmed,
        "reason": found.reason or None,
        "issuer": found.issuer or None,
        "valid_until": json_moment(found.valid_until),
        "key": found.key_kind or None,
        "revision": found.revision or None,
        "registered_at": json_moment(found.registered),
        "former": [
            {
                "user_id": each.user.hex(),
                "name": each.name,
                "confirmed": each.confirmed,
                "registered_at": json_moment(each.registered),
                "renewed_at": json_moment(each.renewed),
                "both_cards": each.both_cards,
            }
            for each in found.former
        ],
    }


def letters(found: Sequence[ListedLetter], *, only_new: bool) -> View:
    def show(screen: Screen) -> None:
        kind = "new letter" if only_new else "letter"
        screen.line(f"  {len(found) or 'no'} {kind}{'' if len(found) == 1 else 's'}")
        if found:
            rows = [_letter_row(screen, letter) for letter in found]
            screen.table(("letter", "from", "subject", "received", ""), rows)
        for letter in found:
            for check in letter.checks:
                if not check.passed:
                    screen.line(
                        f"{screen.mark(False)} {letter.name}: {check.meaning} ({safe_text(check.reason)})", "red"
                    )

    bad = any(not letter.good for letter in found)
    code = ExitCode.CHECK_FAILED if bad else ExitCode.OK
    return View({"letters": [_letter_json(letter) for letter in found]}, show, code)


def thread(found: Sequence[ThreadLetter]) -> View:
    def show(screen: Screen) -> None:
        rows = []
        for each in found:
            name, who, subject, when, state = _letter_row(screen, each.letter)
            gap = "(answers a letter that is not here) " if each.gap else ""
            rows.append(("  " * each.depth + name, who, gap + subject, when, state))
        screen.table(("letter", "from", "subject", "received", ""), rows)

    data = [{**_letter_json(each.letter), "depth": each.depth, "gap": each.gap} for each in found]
    return View({"letters": data}, show)


_ARRIVED = {
    "letter": "letter",
    "sent": "your letter was accepted",
    "receipt": "read by",
    "acceptance": "signed for",
    "refusal": "was not signed for: refused",
    "expiry": "was not signed for in time",
}


def arrival(found: Arrival) -> View:
    """One line for what came, with its checks where one failed."""

    def show(screen: Screen) -> None:
        parts = [moment(found.at), screen.mark(found.good), found.name, _ARRIVED[found.kind]]
        if found.letter is not None and found.good:
            who = [] if found.letter.sent_by_me else [f"from {shown_name(found.letter.author_name)}:"]
            parts += [*who, safe_text(found.letter.subject)]
        if found.receipt is not None:
            parts.append(shown_name(found.receipt.reader_name) or f"{found.receipt.reader.hex()[:12]}...")
        if found.kind in ("acceptance", "refusal", "expiry"):
            parts.append(f"(smr status {found.name} verifies it)")
        screen.line("  ".join(parts))
        checks = found.letter.checks if found.letter else found.receipt.checks if found.receipt else ()
        for check in checks:
            if not check.passed:
                screen.line(f"    {screen.mark(False)} {check.meaning} ({safe_text(check.reason)})", "red")
        if found.problem:
            screen.line(f"    {screen.mark(False)} {safe_text(found.problem)}", "red")

    return View(
        {
            "kind": found.kind,
            "number": found.number,
            "at": json_moment(found.at),
            "letter_id": found.letter_id,
            "author": found.author.hex(),
            "good": found.good,
            "letter": _letter_json(found.letter) if found.letter else None,
            "receipt": _receipt_json(found.receipt) if found.receipt else None,
            "problem": found.problem or None,
        },
        show,
    )


def sent(found: Sent) -> View:
    def show(screen: Screen) -> None:
        names = ", ".join(f"{shown_name(each.name)} ({each.user.hex()[:12]}...)" for each in found.to)
        key = "signature" if found.signed_with_signature_key else "authentication"
        screen.line(f"{screen.mark(True)} Letter {found.name} to {names}")
        screen.line(f"  accepted {moment(found.accepted_at)}, mailbox entry {found.number}, signed with the {key} key")
        if found.attachments:
            screen.line(f"  with {found.attachments} attachment{'s' if found.attachments > 1 else ''}")
        if found.expires_at is not None:
            screen.line(f"  opens against a signature of each recipient, until {moment(found.expires_at)}")

    return View(
        {
            "letter_id": found.letter_id,
            "name": found.name,
            "to": [each.user.hex() for each in found.to],
            "to_names": [each.name for each in found.to],
            "accepted_at": json_moment(found.accepted_at),
            "number": found.number,
            "signed_with": "signature" if found.signed_with_signature_key else "authentication",
            "attachments": found.attachments,
            "expires_at": json_moment(found.expires_at),
        },
        show,
    )


def signature_lines(found: SignatureRequest) -> list[tuple[str, str]]:
    """Who asks for a signature for what, for a person to decide."""
    card = f"{found.civil_number}, card valid until {found.card_valid_until:%Y-%m-%d}"
    others = f", and of {len(found.to) - 1} more" if len(found.to) > 1 else ""
    return [
        ("From", f"{shown_name(found.author_name)} ({card})"),
        ("Asks for", f"your signature for letter {found.letter_id}{others}"),
        ("Sent", f"{moment(found.sent_at)}, received {moment(found.received_at)}"),
        ("Until", moment(found.expires_at)),
        ("Checked", "; ".join(safe_text(check.meaning) for check in found.checks)),
    ]


def deletion_lines(found: ListedLetter) -> list[str]:
    """What is about to be deleted, for a person to look at."""
    if not found.good:
        return [f"Letter {found.letter_id}, which fails a check."]
    who = "you" if found.sent_by_me else shown_name(found.author_name) or found.author.hex()
    lines = [f"Letter {found.letter_id} by {who}, of {moment(found.received_at)}: {safe_text(found.subject)}"]
    return lines if found.read else [*lines, "You have not read it."]


def deleted(found: Deleted) -> View:
    def show(screen: Screen) -> None:
        when = f"was deleted before, on {moment(found.deleted_at)}" if found.before else "is deleted"
        screen.line(f"{screen.mark(True)} Letter {found.letter_id} {when}.")
        screen.line(
            "  What was signed about it stays as evidence, and others keep what they have: smr history shows it."
        )

    return View(
        {
            "letter_id": found.letter_id,
            "author": found.author.hex(),
            "deleted_at": json_moment(found.deleted_at),
            "before": found.before,
        },
        show,
    )


def refused(found: Refused) -> View:
    def show(screen: Screen) -> None:
        who = shown_name(found.to_name) or found.to.hex()
        screen.line(f"{screen.mark(True)} You refused letter {found.letter_id} of {who} ({moment(found.refused_at)}).")
        screen.line("  Your card signed that; nobody can open it with your part of the key any more.")

    return View(
        {
            "letter_id": found.letter_id,
            "from": found.to.hex(),
            "from_name": found.to_name,
            "refused_at": json_moment(found.refused_at),
            "reason": found.reason or None,
        },
        show,
    )


@dataclass(frozen=True, slots=True)
class ReceiptOutcome:
    """What became of the receipt that goes with reading: sent, declined, not due, or failed with `error`."""

    state: str
    error: ClientError | None = None


def read_letter(found: ReadLetter, outcome: ReceiptOutcome, output: str | None) -> View:
    text = _as_text(found)
    card = f"{found.civil_number}, card valid until {found.card_valid_until:%Y-%m-%d}"

    def show(screen: Screen) -> None:
        screen.pairs(
            [
                ("From", f"{shown_name(found.author_name)} ({card})"),
                ("To", ", ".join(user.hex()[:12] + "..." for user in found.to) if len(found.to) > 1 else "you"),
                ("Subject", safe_text(found.subject)),
                ("Sent", f"{moment(found.claimed_at)}, received {moment(found.received_at)}"),
                *(("" if at else "Checks", text) for at, text in enumerate(_marks(screen, found.checks))),
            ]
        )
        screen.line()
        if output is not None:
            screen.line(f"The body ({len(found.body)} bytes, {safe_text(found.media_type)}) was written to {output}.")
        elif text is None:
            screen.line(f"The body has {len(found.body)} bytes that are no text: use --output FILE.")
        else:
            screen.line(safe_text(text, multiline=True))
        screen.line()
        _show_attachments(screen, found.attachments)
        _show_outcome(screen, outcome)

    code = outcome.error.exit_code if outcome.error else ExitCode.OK
    return View(
        {
            "letter_id": found.letter_id,
            "from": found.author.hex(),
            "from_name": found.author_name,
            "to": [user.hex() for user in found.to],
            "to_names": [name or None for name in found.to_names],
            "subject": found.subject,
            "media_type": found.media_type,
            "body": text if output is None else None,
            "body_base64": base64.b64encode(found.body).decode("ascii") if text is None and output is None else None,
            "output": output,
            "attachments": [
                {
                    "name": each.name,
                    "media_type": each.media_type,
                    "size": each.size,
                    "path": str(each.path) if each.path else None,
                }
                for each in found.attachments
            ],
            "sent_at": json_moment(found.claimed_at),
            "received_at": json_moment(found.received_at),
            "number": found.number,
            "checks": checks_json(found.checks),
            "receipt": {"state": outcome.state, "error": error_json(outcome.error) if outcome.error else None},
        },
        show,
        code,
    )


def _show_attachments(screen: Screen, attachments: Sequence[AttachedFile]) -> None:
    for each in attachments:
        what = f"{safe_text(each.name)} ({each.size} bytes, {safe_text(each.media_type)})"
        saved = f"saved as {safe_text(str(each.path))}" if each.path else "not saved: use --attachments DIR"
        screen.line(f"  Attachment  {what}, {saved}")
    if attachments:
        screen.line()


def receipt(found: ReceiptSent) -> View:
    def show(screen: Screen) -> None:
        when = moment(found.accepted_at) if found.accepted_at else "before"
        screen.line(f"{screen.mark(True)} The receipt for {found.letter_id} was accepted ({when}).")

    return View(
        {
            "letter_id": found.letter_id,
            "to": found.to.hex(),
            "accepted_at": json_moment(found.accepted_at),
            "state": "sent" if found.accepted_at else "already sent",
        },
        show,
    )


def status(found: LetterStatus) -> View:
    def show(screen: Screen) -> None:
        screen.line(f"  Letter {found.letter_id}, sent {moment(found.sent_at)}: {safe_text(found.subject)}")
        accepted = f"accepted by the repository  {moment(found.accepted_at)}  mailbox entry {found.number}"
        screen.line(f"  {screen.mark(True)} {accepted}")
        for choice in found.choices:
            _show_choice(screen, choice, found.expires_at)
        # Of those who have to sign first, only who has can have read it.
        signed = {each.reader for each in found.choices if each.verdict is Signing.ACCEPTED}
        for each in found.receipts:
            if found.expires_at is None or each.reader in signed:
                _show_receipt(screen, each)

    failed = any(each.verdict is Verdict.FAILED for each in found.receipts) or any(
        each.verdict is Signing.FAILED for each in found.choices
    )
    return View(
        {
            "letter_id": found.letter_id,
            "subject": found.subject,
            "to": [user.hex() for user in found.to],
            "sent_at": json_moment(found.sent_at),
            "accepted_at": json_moment(found.accepted_at),
            "number": found.number,
            "checks": checks_json(found.checks),
            "receipts": [_receipt_json(each) for each in found.receipts],
            "entry": found.entry.hex(),
            "expires_at": json_moment(found.expires_at),
            "choices": [
                {
                    "reader": each.reader.hex(),
                    "reader_name": each.reader_name or None,
                    "verdict": each.verdict.value,
                    "signed_at": json_moment(each.signed_at),
                    "recorded_at": json_moment(each.recorded_at),
                    "reason": each.reason or None,
                    "checks": checks_json(each.checks),
                }
                for each in found.choices
            ],
        },
        show,
        ExitCode.CHECK_FAILED if failed else ExitCode.OK,
    )


def _receipt_json(receipt: ReceiptStatus) -> dict[str, Any]:
    return {
        "reader": receipt.reader.hex(),
        "reader_name": receipt.reader_name or None,
        "read_at": json_moment(receipt.read_at),
        "accepted_at": json_moment(receipt.accepted_at),
        "verdict": receipt.verdict.value,
        "checks": checks_json(receipt.checks),
    }


def session(found: SessionInfo | None) -> View:
    def show(screen: Screen) -> None:
        if found is None:
            screen.line("No session is open; the next command that needs one opens it.")
            return
        screen.line(f"{screen.mark(True)} A session is open until {moment(to_datetime(found.expires))}.")
        screen.pairs(
            [("citizen", found.user.hex()), ("commands", f"{found.commands_used} of {found.commands_allowed}")]
        )

    if found is None:
        return View({"open": False}, show)
    return View(
        {
            "open": True,
            "user_id": found.user.hex(),
            "expires": json_moment(to_datetime(found.expires)),
            "commands_used": found.commands_used,
            "commands_allowed": found.commands_allowed,
            "epoch": found.epoch,
        },
        show,
    )


def session_closed(at_repository: bool) -> View:
    def show(screen: Screen) -> None:
        where = "here and at the repository" if at_repository else "here; at the repository it ends by itself"
        screen.line(f"{screen.mark(True)} The session is closed {where}.")

    return View({"closed": True, "closed_at_repository": at_repository}, show)


def keys(found: KeySummary, what: str) -> View:
    def show(screen: Screen) -> None:
        screen.line(f"{screen.mark(True)} {what}: {found.sealing_keys} sealing keys, {found.added} new here.")

    return View({"sealing_keys": found.sealing_keys, "added": found.added, "current": found.current}, show)


_CONTRADICTIONS = {
    Contradiction.FORKED: "It signed two different entries under one number: proven.",
    Contradiction.ROLLED_BACK: "It signed a shorter mailbox after a longer one: proven.",
    Contradiction.NOT_PROVEN: "The two signed statements alone do not contradict each other: not proven to others.",
}

_APPROVED = {
    True: "The operator root is the one that you approved here.",
    False: "You approved another operator root here: this is about another repository than yours.",
    None: "Compare the operator root with the one that the operator publishes: without that nothing is proven.",
}


def alarms(found: Sequence[KeptAlarm]) -> View:
    def show(screen: Screen) -> None:
        if not found:
            screen.line("There are no alarms: the repository never contradicted what it signed.")
        for each in found:
            screen.line(f"{screen.mark(False)} {each.name}")
            screen.line(f"  {safe_text(each.alarm.what)}")
            if each.judgement is None:
                screen.line(f"  {safe_text(each.problem)}: not proven to others.")
            else:
                screen.line(f"  {_CONTRADICTIONS[each.judgement.contradiction]}")

    return View({"alarms": [_alarm_json(each) for each in found]}, show)


def exported(found: Exported, file: str) -> View:
    def show(screen: Screen) -> None:
        screen.line(f"{screen.mark(True)} Evidence of letter {found.letter_id} is in {safe_text(file)}.")
        _show_report(screen, found.report)

    data = {"letter_id": found.letter_id, "file": file, "exported_at": json_moment(found.exported_at)}
    return View({**data, "verification": _report_json(found.report)}, show)


def package(found: Report) -> View:
    def show(screen: Screen) -> None:
        for check in found.checks:
            screen.line(f"{screen.mark(check.passed)} {check.about}, {check.name}: {safe_text(check.meaning)}")
            if not check.passed:
                screen.line(f"    {safe_text(check.reason)}")
        screen.line()
        _show_report(screen, found)

    return View(_report_json(found), show, ExitCode.OK if found.passed else ExitCode.CHECK_FAILED)


def _show_report(screen: Screen, found: Report) -> None:
    sub = f" ({found.sub_indication.value})" if found.sub_indication else ""
    screen.line(f"{screen.mark(found.passed)} {found.indication.value}{sub}", style="bold")
    screen.pairs([(name, safe_text(value)) for name, value in found.facts])
    for each in found.left_out:
        screen.line(f"  not included: {safe_text(each)}")


def _report_json(found: Report) -> dict[str, Any]:
    return {
        "indication": found.indication.value,
        "sub_indication": found.sub_indication.value if found.sub_indication else None,
        "checks": [
            {
                "about": check.about,
                "name": check.name,
                "passed": check.passed,
                "meaning": check.meaning,
                "reason": check.reason or None,
                "sub_indication": check.sub_indication.value if check.sub_indication else None,
            }
            for check in found.checks
        ],
        "facts": [{"name": name, "value": value} for name, value in found.facts],
        "not_included": list(found.left_out),
    }


def judged(proof: Proof, found: Judgement, approved: bool | None) -> View:
    proven = found.contradiction is not Contradiction.NOT_PROVEN

    def show(screen: Screen) -> None:
        screen.line(f"{screen.mark(proven)} {_CONTRADICTIONS[found.contradiction]}")
        screen.pairs(
            [
                ("repository", f"{shown_name(found.repository.name)} ({found.repository.repository})"),
                ("operator root", found.root_fingerprint),
                ("mailbox", proof.mailbox.hex()),
                ("signed first", _statement_text(found.seen)),
                ("signed then", _statement_text(found.shown)),
            ]
        )
        screen.line(_APPROVED[approved])

    json = {**_judgement_json(found), "operator_root_approved": approved}
    return View(json, show, ExitCode.OK if proven else ExitCode.CHECK_FAILED)


def _statement_text(found: Statement | None) -> str:
    if found is None:
        return "nothing"
    what = "the last entry" if found.last else "an entry"
    return f"entry {found.number} is {found.entry.hex()[:16]}, {what}, {moment(to_datetime(found.time))}"


def _alarm_json(each: KeptAlarm) -> dict[str, Any]:
    return {
        "name": each.name,
        "what": each.alarm.what,
        "problem": each.problem or None,
        "judgement": _judgement_json(each.judgement) if each.judgement else None,
    }


def _judgement_json(found: Judgement) -> dict[str, Any]:
    return {
        "contradiction": found.contradiction.value,
        "proven": found.contradiction is not Contradiction.NOT_PROVEN,
        "repository_id": found.repository.repository,
        "operator_root": found.root_fingerprint,
        "seen": _statement_json(found.seen),
        "shown": _statement_json(found.shown),
    }


def _statement_json(found: Statement | None) -> dict[str, Any] | None:
    if found is None:
        return None
    signed = json_moment(to_datetime(found.time))
    return {"number": found.number, "entry": found.entry.hex(), "last": found.last, "signed": signed}


def error_json(error: ClientError) -> dict[str, Any]:
    """An error as programs read it."""
    found: dict[str, Any] = {
        "code": error.code,
        "exit_code": int(error.exit_code),
        "message": str(error),
        "what": error.what,
        "why": error.why,
        "action": error.action,
    }
    checks = getattr(error, "checks", ())
    if checks:
        found["checks"] = checks_json(checks)
    if getattr(error, "evidence", ""):
        found["evidence"] = getattr(error, "evidence", "")
    return found


def show_error(screen: Screen, error: ClientError) -> None:
    """What happened, why it matters, what to do next: one line each, on standard error."""
    failed = error.exit_code is ExitCode.CHECK_FAILED
    screen.note(f"{screen.mark(False)} {safe_text(error.what)}", "bold red" if failed else "bold")
    for text in (error.why, error.action):
        if text:
            screen.note(f"  {safe_text(text)}")
    for check in getattr(error, "checks", ()):
        text = check.meaning if check.passed else check.reason
        screen.note(f"  {screen.mark(check.passed)} {check.name}: {safe_text(text)}")


def checks_json(checks: Sequence[Check]) -> list[dict[str, Any]]:
    return [
        {"name": check.name, "passed": check.passed, "meaning": check.meaning, "reason": check.reason or None}
        for check in checks
    ]


def _marks(screen: Screen, checks: Sequence[Check]) -> list[str]:
    return [f"{screen.mark(check.passed)} {safe_text(check.meaning)}" for check in checks]


def _readers(found: ReadLetter) -> str:
    names = [shown_name(name) or f"{user.hex()[:12]}..." for user, name in zip(found.to, found.to_names, strict=True)]
    if found.mine:
        return ", ".join(names)
    return "you" if len(names) == 1 else f"you and {len(names) - 1} more: {', '.join(names)}"


def _show_outcome(screen: Screen, outcome: ReceiptOutcome) -> None:
    if outcome.error is None:
        screen.line(f"Reading receipt: {outcome.state}")
        return
    screen.line(f"Reading receipt: {screen.mark(False)} not sent. Send it later: smr receipt LETTER.")
    show_error(screen, outcome.error)


def _show_receipt(screen: Screen, found: ReceiptStatus) -> None:
    who = shown_name(found.reader_name) or found.reader.hex()
    if found.verdict is Verdict.VERIFIED and found.read_at is not None:
        screen.line(
            f"  {screen.mark(True)} read by {who}  {moment(found.read_at)}  "
            "receipt signed by their Citizen Card, verified now"
        )
    elif found.verdict is Verdict.FAILED:
        screen.line(f"  {screen.mark(False)} a receipt in the name of {who} does not hold. Do not rely on it.", "red")
        for check in found.checks:
            if not check.passed:
                screen.line(f"      {check.name}: {safe_text(check.reason)}")
    else:
        screen.line(f"  {screen.mark(None)} not confirmed by {who}: no receipt (it may have been read all the same)")


def _show_choice(screen: Screen, found: ChoiceStatus, expires_at: datetime | None) -> None:
    who = shown_name(found.reader_name) or found.reader.hex()
    when = moment(found.recorded_at) if found.recorded_at else ""
    match found.verdict:
        case Signing.ACCEPTED:
            screen.line(f"  {screen.mark(True)} signed for by {who}  {when}  by their Citizen Card, verified now")
        case Signing.REFUSED:
            why = f": {safe_text(found.reason)}" if found.reason else ""
            screen.line(f"  {screen.mark(True)} refused by {who}  {when}  by their Citizen Card, verified now{why}")
        case Signing.EXPIRED:
            screen.line(f"  {screen.mark(None)} not signed for by {who} in time, recorded {when}")
        case Signing.WAITING:
            until = f" (until {moment(expires_at)})" if expires_at else ""
            screen.line(f"  {screen.mark(None)} not signed for by {who} yet{until}")
        case Signing.FAILED:
            screen.line(f"  {screen.mark(False)} what is said of {who}'s signature does not hold.", "red")
            for check in found.checks:
                if not check.passed:
                    screen.line(f"      {check.name}: {safe_text(check.reason)}")


def _as_text(found: ReadLetter) -> str | None:
    try:
        return found.body.decode("utf-8")
    except UnicodeDecodeError:
        return None


#: State and subject of a letter that has not opened, as every view says it.
UNOPENED = {
    Signature.WAITING: ("sign-for", "(opens when you sign)"),
    Signature.REFUSED: ("refused", "(you refused to sign for it)"),
    Signature.EXPIRED: ("expired", "(not signed for in time)"),
}


def _letter_row(screen: Screen, letter: ListedLetter) -> tuple[str, str, str, str, str]:
    if not letter.good:
        return letter.name, "(not verified)", "(refused by a check)", moment(letter.received_at), screen.mark(False)
    state = "sent" if letter.sent_by_me else "read" if letter.read else "new"
    dot = "● " if screen.unicode and state == "new" else ""
    subject = safe_text(letter.subject)
    if letter.signature in UNOPENED:
        state, subject = UNOPENED[letter.signature]
        dot = "✍ " if screen.unicode and letter.signature is Signature.WAITING else ""
    return (
        letter.name,
        "you" if letter.sent_by_me else shown_name(letter.author_name),
        subject,
        moment(letter.received_at),
        dot + state,
    )


def _letter_json(letter: ListedLetter) -> dict[str, Any]:
    return {
        "letter_id": letter.letter_id,
        "name": letter.name,
        "box": "sent" if letter.sent_by_me else "received",
        "from": letter.author.hex(),
        "from_name": letter.author_name or None,
        "to": [user.hex() for user in letter.to],
        "subject": letter.subject if letter.good and letter.signature not in UNOPENED else None,
        "received_at": json_moment(letter.received_at),
        "read": letter.read,
        "number": letter.number,
        "verified": letter.good,
        "signature": letter.signature.value,
        "expires_at": json_moment(letter.expires_at),
        "checks": checks_json(letter.checks),
    }


def _card_json(card: CardReport) -> dict[str, Any]:
    return {
        "reader": card.reader,
        "slot": card.slot,
        "label": card.label,
        "serial": card.serial,
        "card": card.kind or None,
        "pin": card.pin,
        "own": card.own,
        "holder": card.holder or None,
        "civil_number": card.civil_number or None,
        "user_id": card.user.hex() if card.user else None,
        "problem": card.problem or None,
        "keys": [
            {
                "use": key.use,
                "kind": key.kind,
                "mechanism": key.mechanism or None,
                "sha256": key.sha256,
                "valid_from": json_moment(key.valid_from),
                "valid_until": json_moment(key.valid_until),
                "verdict": key.verdict,
                "detail": key.detail or None,
            }
            for key in card.keys
        ],
    }

"""reply and thread: letters that answer letters.

A letter's signed document names the documents that it answers by their SHA-256, the answered one last and those that
it answers itself before it, so that a conversation holds together where a letter between is missing. Digests are of
documents with salted parts: nobody can name a letter that they have not seen. What is no good letter has no place in a
thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from client import mailbox, naming, session
from client.commands import box, send
from client.commands.box import ListedLetter
from client.commands.send import Sent
from client.context import Context
from client.errors import CheckFailed
from client.naming import letter_name
from crypto_core.documents import REFERENCES
from crypto_core.ids import Digest, UserId

_ANSWER = "Re: "


@dataclass(frozen=True, slots=True)
class ThreadLetter:
    """A letter of a conversation. `depth`: how many letters here it answers, one after the other.

    `gap`: it answers a letter that is not in this mailbox.
    """

    letter: ListedLetter
    depth: int
    gap: bool


def reply(
    context: Context,
    text: str,
    body: bytes,
    *,
    everybody: bool,
    subject: str | None = None,
    attachments: Sequence[Path] = (),
    sign_for_days: int | None = None,
) -> Sent:
    """Answers the letter that `text` names, to whom `addressees` says; the rest as `send.send`.

    `subject` None: that of the letter, as an answer. Raises CheckFailed for a letter that is not good.
    """
    live = session.require(context)
    own = mailbox.own_mailbox(context, live)
    link = naming.find_letter(own, text)
    judged = box.judged_head(context, live, own, link)
    head, sender = judged.require()
    to = addressees(sender.user, head.letter.to, own.owner, everybody=everybody)
    title = subject if subject is not None else answering(head.subject)
    references = (*head.letter.references, head.signed.digest)[-REFERENCES:]
    people = sorted(user.hex() for user in to)
    return send.send(context, people, body, title, attachments, references=references, sign_for_days=sign_for_days)


def addressees(author: UserId, to: Sequence[UserId], owner: UserId, *, everybody: bool) -> set[UserId]:
    """Who gets `owner`'s answer: a letter's author, with `everybody` its other readers too; of an own one those."""
    others = set(to) - {owner}
    return (others if author == owner else {author} | (others if everybody else set())) or {owner}


def answering(subject: str) -> str:
    """The subject of an answer to a letter with this one."""
    return subject if subject.casefold().startswith(_ANSWER.casefold()) else _ANSWER + subject


def thread(context: Context, text: str) -> tuple[ThreadLetter, ...]:
    """The conversation of the letter that `text` names, answers below what they answer, each level by its time."""
    live = session.require(context)
    own = mailbox.own_mailbox(context, live)
    link = naming.find_letter(own, text)
    own.require_kept(link)
    letters = [each for each in box.everything(context) if each.good]
    wanted = [each for each in letters if (each.author, each.letter_id) == (link.author, letter_name(link.letter))]
    if not wanted:
        raise CheckFailed(
            "This letter fails a check, or it waits for your signature.",
            "What it says that it answers counts for nothing.",
            "See what is wrong: smr list.",
        )
    return tuple(_in_order(_related(letters, wanted[0])))


def _related(letters: Sequence[ListedLetter], first: ListedLetter) -> list[ListedLetter]:
    """Everything that is connected with `first` by references, over letters that are missing here too."""
    known = _named(first)
    found = [first]
    grown = True
    while grown:
        more = [each for each in letters if each not in found and known & _named(each)]
        for each in more:
            known |= _named(each)
        found += more
        grown = bool(more)
    return found


def _named(letter: ListedLetter) -> set[Digest]:
    """A letter's own document and those that it answers."""
    return {*letter.references, *((letter.document,) if letter.document is not None else ())}


def _in_order(letters: Sequence[ListedLetter]) -> Iterator[ThreadLetter]:
    here = {each.document for each in letters}
    by_time = sorted(letters, key=lambda each: (each.received_at, each.number))
    for each in by_time:
        parent = each.references[-1] if each.references else None
        if parent is None or parent not in here:
            yield from _below(each, by_time, 0, gap=parent is not None)


def _below(letter: ListedLetter, letters: Sequence[ListedLetter], depth: int, *, gap: bool) -> Iterator[ThreadLetter]:
    yield ThreadLetter(letter, depth, gap)
    for each in letters:
        if each.references and each.references[-1] == letter.document:
            yield from _below(each, letters, depth + 1, gap=False)

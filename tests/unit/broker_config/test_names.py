"""Names are made and read in one place, and a hostile `reply_to` is refused."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_config import names
from broker_config.errors import NameRefused

ALICE = names.installation_of(hashlib.sha256(b"app key of Maria").digest())
BRUNO = names.installation_of(hashlib.sha256(b"app key of Bruno").digest())


def test_an_installation_is_the_start_of_the_digest_in_base32():
    digest = hashlib.sha256(b"app key of Maria").digest()
    assert base64.b32encode(digest).decode().lower().startswith(ALICE)
    assert len(ALICE) == 26


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_only_a_whole_digest_names_an_installation(length):
    with pytest.raises(NameRefused):
        names.installation_of(bytes(length))


def test_a_reply_queue_has_the_form_of_the_specification():
    assert names.reply_queue(ALICE, bytes(16)) == f"smr.reply.{ALICE}.{'a' * 26}"


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
def test_what_is_made_is_read_back(digest, random):
    installation = names.installation_of(digest)
    queue = names.reply_queue(installation, random)
    assert names.parse_reply_queue(queue) == installation
    assert re.fullmatch(names.reply_queue_pattern(installation), queue)
    assert names.parse_client_account(names.client_account(installation)) == installation


@pytest.mark.parametrize("length", [0, 8, 15, 17, 32])
def test_a_queue_is_named_with_128_random_bits(length):
    with pytest.raises(NameRefused):
        names.reply_queue(ALICE, bytes(length))


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        "smr.commands",
        "smr.commands.dead",
        "amq.rabbitmq.reply-to",
        f"smr.reply.{ALICE}",
        f"smr.reply.{ALICE}.",
        f"smr.reply.{ALICE}.{'a' * 25}",
        f"smr.reply.{ALICE}.{'a' * 27}",
        f"smr.reply.{ALICE}.{'A' * 26}",
        f"smr.reply.{ALICE.upper()}.{'a' * 26}",
        f"smr.reply.{ALICE}.{'1' * 26}",
        f"smr.reply.{ALICE}.{'a' * 26}\n",
        f" smr.reply.{ALICE}.{'a' * 26}",
        f"smr.reply.{ALICE}.{'a' * 26}.more",
        f"smrXreplyX{ALICE}.{'a' * 26}",
        f"smr.reply.{'á' * 26}.{'a' * 26}",
        f"smr.reply.*.{'a' * 26}",
    ],
)
def test_other_queues_are_never_taken_for_reply_queues(hostile):
    with pytest.raises(NameRefused):
        names.parse_reply_queue(hostile)


@given(st.text())
def test_any_text_is_either_read_exactly_or_refused(text):
    try:
        installation = names.parse_reply_queue(text)
    except NameRefused:
        return
    assert text.startswith(f"smr.reply.{installation}.")


@pytest.mark.parametrize("hostile", ["", ".*", f"{ALICE}\n", ALICE[:-1], ALICE + "a", ALICE.upper(), f"{ALICE}|.*"])
def test_no_other_text_is_an_installation(hostile):
    for function in (names.parse_installation, names.reply_queue_pattern, names.client_account):
        with pytest.raises(NameRefused):
            function(hostile)
    with pytest.raises(NameRefused):
        names.reply_queue(hostile, bytes(16))


def test_a_queue_of_a_worker_is_read_as_it_was_named_and_no_other_is():
    made = names.ends_queue(bytes(range(16)))
    assert names.parse_ends_queue(made) == made
    assert re.search(names.ends_queue_pattern(), made)
    reply = names.reply_queue(ALICE, bytes(16))
    for other in (f"{made}x", f"x{made}", made[:-1], f"{made}\n", made.upper(), "smr.ends.", "smr.commands", "", reply):
        with pytest.raises(NameRefused):
            names.parse_ends_queue(other)
    for random in (b"", bytes(15), bytes(17)):
        with pytest.raises(NameRefused):
            names.ends_queue(random)


def test_the_pattern_of_one_installation_matches_no_queue_of_another():
    assert not re.search(names.reply_queue_pattern(ALICE), names.reply_queue(BRUNO, bytes(16)))


@pytest.mark.parametrize(
    "user", ["guest", "smr-worker", "smr-client-", f"smr-client-{ALICE}x", f"x-smr-client-{ALICE}"]
)
def test_other_accounts_are_not_taken_for_clients(user):
    with pytest.raises(NameRefused):
        names.parse_client_account(user)

"""Session negotiation without the card's time, against two plain RPCs: a bare one and one with a durable insert.

That is what the two exchanges of a negotiation need at least: the repository keeps nothing for the first and stores the
session for the second. The card is in software here, and what it takes is measured and taken off.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence

from bench.figures import MILLISECOND, Better, Measure, percentile
from bench.people import Caller, Citizen, now_ms
from bench.plan import Plan
from bench.world import ECHO, FLOOR, World
from crypto_core import session
from crypto_core.documents import SignedDocument

NEGOTIATIONS = 40  #: of one repetition
AIM, BOUND = 2.0, 3.0


def negotiation(world: World, plan: Plan) -> Iterable[Measure]:
    """Milliseconds from making the hello to the active session, without the card's: p50 of each repetition."""
    ours: list[float] = []
    floors: list[float] = []
    citizens = world.people[0][:NEGOTIATIONS]
    with world.caller() as caller:
        request, reply = _sizes(caller, citizens[0])
        with world.plain_workers("insert", reply), world.plain_workers("echo", reply, ECHO):
            for number in range(plan.repetitions):
                world.say(f"negotiation, repetition {number + 1} of {plan.repetitions}")
                ours.append(percentile([_negotiate(caller, each) for each in citizens], 50) / MILLISECOND)
                floors.append(percentile(_plain(caller, request), 50) / MILLISECOND)
    yield Measure(
        "negotiation_p50",
        "ms",
        tuple(ours),
        tuple(floors),
        Better.LOWER,
        AIM,
        BOUND,
        "two plain RPCs, the second with one insert",
        extra={"negotiations_a_run": len(citizens)},
    )


def _negotiate(caller: Caller, citizen: Citizen) -> float:
    card = 0.0

    def login(answered: session.Answered) -> SignedDocument:
        nonlocal card
        document = answered.login_document(citizen.user, now_ms())
        began = time.perf_counter()
        signed = citizen.signed(document)
        card = time.perf_counter() - began
        return signed

    began = time.perf_counter()
    caller.negotiate(login)
    return time.perf_counter() - began - card


def _plain(caller: Caller, size: int) -> Sequence[float]:
    data = secrets.token_bytes(size)
    taken = []
    for _ in range(NEGOTIATIONS):
        began = time.perf_counter()
        caller.call(data, ECHO, ECHO)
        caller.call(data, FLOOR, FLOOR)
        taken.append(time.perf_counter() - began)
    return taken


def _sizes(caller: Caller, citizen: Citizen) -> tuple[int, int]:
    """Bytes of a message of a negotiation, and of its reply: means of both exchanges."""
    sent = session.hello(caller.descriptor, caller.app_key, now_ms())
    answer = caller.call(sent.hello)
    answered = sent.answered(answer)
    confirm = answered.confirm(citizen.signed(answered.login_document(citizen.user, now_ms())), now_ms())
    active = caller.call(confirm.confirm)
    return (len(sent.hello) + len(confirm.confirm)) // 2, (len(answer) + len(active)) // 2

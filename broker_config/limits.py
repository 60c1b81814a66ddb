"""How much of anything the broker may hold or carry. Every number has its unit in its name or beside it.

Limits are set by what one letter needs and by what an outsider must not be able to fill. They are declared with the
queues (`topology`), written into `rabbitmq.conf`, and checked by clients before anything is sent.
"""

from __future__ import annotations

from typing import Final

MIB: Final = 1024 * 1024

# One envelope is one AMQP message: a letter of 8 MiB with its seals, signatures and framing fits with room to spare.
# The same number is `max_message_size` in rabbitmq.conf, so the broker refuses what we refuse.
ENVELOPE_BYTES: Final = 10 * MIB

# The command queue refuses publishers (reject-publish) beyond these: a sender learns it at once from its confirm.
COMMAND_QUEUE_MESSAGES: Final = 10_000
COMMAND_QUEUE_BYTES: Final = 1024 * MIB

# Deliveries of one message before it becomes a dead letter: a message that kills workers must not do it for ever.
# RabbitMQ before 4.0 has no default. Losing a worker or its connection counts as a delivery.
DELIVERY_LIMIT: Final = 20

# Dead letters are for an operator to look at. The oldest go first, so that nobody can fill a disk with garbage.
DEAD_LETTER_MILLISECONDS: Final = 14 * 24 * 3600 * 1000
DEAD_LETTER_MESSAGES: Final = 10_000
DEAD_LETTER_BYTES: Final = 256 * MIB
# Listing them takes each one and gives it back, which counts as a delivery; from RabbitMQ 4.0 on the default is 20.
DEAD_LETTER_LOOKS: Final = 1_000_000

# A client that asks and never reads: its oldest replies go, nobody else's.
REPLY_QUEUE_BYTES: Final = 64 * MIB
REPLY_MILLISECONDS: Final = 10 * 60 * 1000

# What a worker has not heard yet of where chains end: the oldest go, and what is not heard is asked for.
ENDS_QUEUE_MESSAGES: Final = 1_000
ENDS_QUEUE_BYTES: Final = 4 * MIB
ENDS_MILLISECONDS: Final = 5_000

# Messages that a worker holds unacknowledged: at most PREFETCH_MESSAGES x ENVELOPE_BYTES of memory.
# As many as go into one commit: with fewer the batches are smaller, and each message costs more.
PREFETCH_MESSAGES: Final = 32

HEARTBEAT_SECONDS: Final = 30
# How long a connection may stay blocked by the broker (memory or disk alarm) before we call it lost.
BLOCKED_SECONDS: Final = 30
# One attempt at opening a connection, name resolution and TLS included.
CONNECT_SECONDS: Final = 10
CONNECT_ATTEMPTS: Final = 3
CONNECT_PAUSE_SECONDS: Final = 0.5

# Blocks of memory up to this size are not given back to the system after each message (`connection`).
KEPT_BYTES: Final = 4 * MIB
# What is read from a connection at once: as much as one frame holds, unless rabbitmq.conf says otherwise.
READ_BYTES: Final = 128 * 1024

"""What can go wrong between a program and the broker.

    BrokerError                 caught by whoever only wants to know that the broker failed
    ├── BrokerUnreachable       nobody answers, or the connection was lost: trying again later is right
    ├── BrokerRefused           the broker answered and said no (account, permission, virtual host): ask the operator
    ├── BrokerNotReady          the exchange or queue is missing or was declared otherwise: the operator sets it up
    ├── BrokerSettingsInvalid   an address or setting that cannot be right: mend it before trying again
    └── NameRefused             a queue or account name that is not of our form, often from a hostile peer

Every message says what happened, why it matters and what to do next, and never holds a password. Exceptions of pika,
ssl, socket and urllib stay inside this room: they are wrapped with `raise … from`.
"""

from __future__ import annotations


class BrokerError(Exception):
    """Base of everything that this room raises about the broker."""


class BrokerUnreachable(BrokerError):
    """Nobody answers at the broker's address, or the connection was lost."""


class BrokerRefused(BrokerError):
    """The broker knows who is asking and says no, or does not know the account."""


class BrokerNotReady(BrokerError):
    """The topology is missing, or exists with other settings than ours."""


class BrokerSettingsInvalid(BrokerError):
    """A setting that cannot be right, found before anything was sent."""


class NameRefused(BrokerError):
    """A queue or account name that is not exactly of the form that we give out."""

"""init: the app key, the keystore, the operator root that the citizen approves, and the account at the broker.

The account comes second: the operator enrols the installation by its name, which its app key gives it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from broker_config import enrolment as enrolments
from broker_config.connection import tls_context
from client import session
from client.context import Context
from client.errors import CheckFailed, Usage
from client.state import keystore, pin
from client.state.keystore import BrokerAccount, Keys
from crypto_core import descriptor as descriptors
from crypto_core.ids import Milliseconds, RepositoryId, installation_of
from crypto_core.suite import sha256
from pki.identity import display_name, load_certificate
from pki.trust_store import normal_fingerprint


@dataclass(frozen=True, slots=True)
class OperatorRoot:
    """What the citizen is asked to approve: compare the fingerprint with one from the operator's own publications."""

    fingerprint: str
    operator: str
    repository_name: str


@dataclass(frozen=True, slots=True)
class Installed:
    """A new installation. `installation` is what the operator enrols at the broker."""

    app_key: str
    installation: str
    repository_id: RepositoryId
    repository_name: str
    operator_root: str
    descriptor_expires: Milliseconds


@dataclass(frozen=True, slots=True)
class Enrolled:
    """This installation has its account."""

    installation: str
    repository_id: RepositoryId


def init(
    context: Context,
    descriptor: bytes,
    root_fingerprint: str | None,
    approve: Callable[[OperatorRoot], bool],
) -> Installed:
    """Sets up this home for the repository that `descriptor` describes.

    The operator root is the one of `root_fingerprint` (SHA-256, hex); without it `approve` is asked.

    Raises Usage when the home is in use, CheckFailed when root or descriptor are refused.
    """
    with context.home.lock("init"):
        if context.home.pin.exists():
            raise Usage(
                f"{context.home.path} is set up already.",
                "Setting it up again would lose its keys and with them your letters.",
                "Use another home: smr --home DIR init.",
            )
        signed = descriptors.read(descriptor)
        root = load_certificate(signed.chain[-1])
        fingerprint = sha256(signed.chain[-1]).hex()
        # First that it is consistent under the root that it brings along; then whether that root is the right one.
        found = pin.verify(signed, bytes.fromhex(fingerprint), context.now())
        _require_approved(OperatorRoot(fingerprint, display_name(root.subject), found.name), root_fingerprint, approve)
        keys = _keys(context)
        pin.create(context.home, signed, found, context.now())
    app_key = keys.app_key.public.raw
    return Installed(app_key.hex(), installation_of(app_key), found.repository, found.name, fingerprint, found.expires)


def enrol(context: Context, enrolment: bytes) -> Enrolled:
    """Takes the account that the operator gave this installation, in place of one that it had.

    Raises Usage for another installation's file, BrokerSettingsInvalid for what is none.
    """
    found = enrolments.read(enrolment)
    # What the address or a CA in the file cannot mean is found now, and not at the next command.
    address = found.broker or context.descriptor.broker
    tls = enrolments.connection(found.installation, found.password, address, ca=found.ca).tls
    if tls is not None:
        tls_context(tls)
    installation = installation_of(context.unlock().app_key.public.raw)
    if installation != found.installation:
        raise Usage(
            f"This file enrols the installation {found.installation}, and this one is {installation}.",
            "An account serves the one installation that it was made for.",
            f"Ask the operator to enrol {installation}.",
        )
    account = BrokerAccount(found.password, found.ca, found.broker)
    passphrase = context.settings.passphrase("keystore")
    with context.home.lock("keystore"):
        keys = keystore.load(context.home.keystore, passphrase)
        keystore.save(context.home.keystore, replace(keys, account=account), passphrase)
    context.relock()
    session.keep_account(context, account)
    return Enrolled(installation, context.repository)


def _require_approved(found: OperatorRoot, wanted: str | None, approve: Callable[[OperatorRoot], bool]) -> None:
    if wanted is not None:
        if normal_fingerprint(wanted) != found.fingerprint:
            raise CheckFailed(
                "The descriptor is of another operator than the one whose fingerprint you gave.",
                f"Its operator root is {found.fingerprint}.",
                "Get descriptor and fingerprint from the operator again, each from its own source.",
            )
        return
    if not approve(found):
        raise CheckFailed(
            "The operator root was not approved.",
            "Nothing was set up.",
            "Compare the fingerprint with the one that the operator publishes, then run init again.",
        )


def _keys(context: Context) -> Keys:
    """The keystore of an `init` that was interrupted, else a new one."""
    if context.home.keystore.exists():
        return keystore.load(context.home.keystore, context.settings.passphrase("keystore"))
    keys = Keys.generate(context.now())
    keystore.save(context.home.keystore, keys, context.settings.passphrase("first keystore"))
    return keys

"""init: the app key, the keystore, and the operator root that the citizen approves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broker_config.connection import parse_amqp_url
from client.context import Context
from client.errors import CheckFailed, Usage
from client.state import files, keystore, pin
from client.state.keystore import Keys
from crypto_core import descriptor as descriptors
from crypto_core.ids import Milliseconds, RepositoryId, installation_of
from crypto_core.suite import sha256
from pki.identity import display_name, load_certificate
from pki.trust_store import normal_fingerprint

ACCOUNT_BYTES: Final = 2048


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


def init(
    context: Context,
    descriptor: bytes,
    root_fingerprint: str | None,
    approve: Callable[[OperatorRoot], bool],
    broker_account: bytes | None = None,
) -> Installed:
    """Sets up this home for the repository that `descriptor` describes.

    The operator root is the one of `root_fingerprint` (SHA-256, hex); without it `approve` is asked. `broker_account`
    is the broker's address with this installation's account and password, where the operator gave one.

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
        _keep_account(context, broker_account)
        keys = _keys(context)
        pin.create(context.home, signed, found, context.now())
    app_key = keys.app_key.public.raw
    return Installed(app_key.hex(), installation_of(app_key), found.repository, found.name, fingerprint, found.expires)


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


def _keep_account(context: Context, account: bytes | None) -> None:
    if account is None:
        return
    if len(account) > ACCOUNT_BYTES:
        raise Usage("The file with the broker account is too large.", action="Name the file that the operator gave.")
    parse_amqp_url(account.decode("utf-8", "replace").strip())
    files.write(context.home.broker_account, account)

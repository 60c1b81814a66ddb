"""The typed commands and their results, and the bodies of command and reply envelopes.

    request body = {"command": NAME, "arguments": {…}, "nonce": 32 bytes, "time": ms}
    reply body   = {"nonce": …, "time": ms, "result": {…}}  or  {"nonce": …, "time": ms, "error": {"code", "message"}}

No argument says who is asking: the user is the session's user.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, TypeVar

from crypto_core import cbor, limits, schema, sealed, sign_for, suite
from crypto_core.choice import Choice, SignedChoice
from crypto_core.deletion import SignedDeletion
from crypto_core.delivery import EntryStamp
from crypto_core.documents import REVISION_MAX, SignedDocument, SignedRenewal
from crypto_core.errors import BindingMismatch, LimitExceeded, Malformed, ProtocolError
from crypto_core.evidence import Evidence as Enclosed
from crypto_core.ids import (
    NONCE_BYTES,
    AttachmentIdField,
    Digest,
    LetterIdField,
    Milliseconds,
    MomentField,
    NonceField,
    UserIdField,
)
from crypto_core.mailbox import NUMBER_MAX, Entry
from crypto_core.schema import Range, Size
from crypto_core.sign_for import ShareField, SignedSlip

R = TypeVar("R")

CertificateField = Annotated[bytes, Size(1, limits.CERTIFICATE_BYTES)]
HeadField = Annotated[bytes, Size(1, limits.KIB)]
PlacementField = Annotated[bytes, Size(1, limits.PLACEMENT_BYTES)]
MESSAGE_BYTES: Final = 512
_CHUNKS: Final = limits.ATTACHMENT_BYTES // limits.CHUNK_BYTES
_SEALED_ATTACHMENT_BYTES: Final = limits.ATTACHMENT_BYTES + _CHUNKS * suite.TAG_BYTES
PositionField = Annotated[int, Range(0, _CHUNKS - 1)]
ChunkField = Annotated[bytes, Size(suite.TAG_BYTES, limits.CHUNK_BYTES + suite.TAG_BYTES)]


class ErrorCode(enum.Enum):
    """Why a command was refused. Signed and sealed as every reply."""

    MALFORMED = "malformed"  #: the request is not of the protocol
    TOO_LARGE = "too-large"  #: a named limit is passed
    CLOCK = "clock"  #: the request is dated too far from the repository's clock
    COUNTER_USED = "counter-used"  #: another envelope was already accepted under this counter
    LOGIN_NEEDED = "login-needed"  #: the session has no citizen
    NOT_ALLOWED = "not-allowed"  #: this citizen may not do this
    NOT_FOUND = "not-found"  #: no such person, letter or box entry for this citizen
    CONFLICT = "conflict"  #: something else is stored under this id
    CERTIFICATE = "certificate"  #: a certificate is refused: chain, time or revocation
    SIGNATURE = "signature"  #: a card signature does not verify
    TOO_MANY = "too-many"  #: asked too often; wait
    UNAVAILABLE = "unavailable"  #: the repository cannot do this now; try again


class RefusedByRepository(ProtocolError):
    """The repository's signed refusal of a command."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


# ------------------------------------------------------------------------------------------------------ commands


@dataclass(frozen=True, slots=True)
class Create:
    """Registers the citizen, or replaces their registration by a later revision.

    `renewal` binds it to the registration of an earlier card of the same citizen.
    """

    registration: SignedDocument
    authentication_certificate: CertificateField
    signature_certificate: CertificateField | None
    intermediates: Annotated[tuple[CertificateField, ...], Size(0, limits.CERTIFICATES)]
    renewal: SignedRenewal | None = None


@dataclass(frozen=True, slots=True)
class List:
    """People: one exact `user` (with `history`: all revisions), or those whose name contains `query`, page by page."""

    user: UserIdField | None
    query: Annotated[str, Size(0, limits.QUERY_BYTES)] | None
    history: bool
    after: UserIdField | None


@dataclass(frozen=True, slots=True)
class New:
    """The letters of the caller's box that were not read yet, after entry `after`."""

    after: Annotated[int, Range(0, NUMBER_MAX)]


@dataclass(frozen=True, slots=True)
class All:
    """The entries of the caller's mailbox after entry `after`, with the sealed heads or (`heads` false) without."""

    after: Annotated[int, Range(0, NUMBER_MAX)]
    heads: bool


@dataclass(frozen=True, slots=True)
class ToSign:
    """What goes with a letter that opens against a signature: the slip, and each recipient's second share in order."""

    slip: SignedSlip
    shares: Annotated[tuple[ShareField, ...], Size(1, limits.RECIPIENTS)] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Send:
    """A sealed letter; source, destinations and copy are named in its protected headers and checked."""

    head: Annotated[bytes, Size(1, limits.SEALED_HEAD_BYTES)]
    body: Annotated[bytes, Size(1, limits.SEALED_BODY_BYTES)]
    to_sign: ToSign | None = None


@dataclass(frozen=True, slots=True)
class Recv:
    """A letter of the caller's box, by author and id; marks it read if it was received."""

    author: UserIdField
    letter: LetterIdField


@dataclass(frozen=True, slots=True)
class Receipt:
    """A sealed reading receipt for a letter that the caller has read."""

    receipt: Annotated[bytes, Size(1, limits.RECEIPT_BYTES)]


@dataclass(frozen=True, slots=True)
class Accept:
    """The caller's signed acceptance of a slip: against it the second share is released."""

    acceptance: SignedDocument
    evidence: Enclosed | None


@dataclass(frozen=True, slots=True)
class Refuse:
    """The caller's signed refusal of a slip, with its sealed reason where it has one."""

    refusal: SignedDocument
    evidence: Enclosed | None
    reason: Annotated[bytes, Size(1, limits.SEALED_REASON_BYTES)] | None


@dataclass(frozen=True, slots=True)
class Delete:
    """A letter goes from the caller's box, as the caller's app key has signed."""

    deletion: SignedDeletion


@dataclass(frozen=True, slots=True)
class Status:
    """The caller's own letter and all of its receipts."""

    letter: LetterIdField


@dataclass(frozen=True, slots=True)
class Evidence:
    """The repository's signed evidence about a letter of the caller's box, by author and id (see `delivery`)."""

    author: UserIdField
    letter: LetterIdField


@dataclass(frozen=True, slots=True)
class Block:
    """The caller wants no letters of `user` any more (`blocked`), or wants them again."""

    user: UserIdField
    blocked: bool


@dataclass(frozen=True, slots=True)
class Blocked:
    """Everybody whom the caller blocks."""


@dataclass(frozen=True, slots=True)
class Watch:
    """For a time, the queue that this command's reply goes to gets a hint whenever the caller's mailbox grows."""


@dataclass(frozen=True, slots=True)
class Close:
    """Ends this session: its record is deleted."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Begins the upload of an attachment of a letter that is to be sent, or asks what of it is there.

    `size`: bytes of all sealed chunks together.
    """

    letter: LetterIdField
    attachment: AttachmentIdField
    size: Annotated[int, Range(suite.TAG_BYTES, _SEALED_ATTACHMENT_BYTES)]


@dataclass(frozen=True, slots=True)
class PutChunk:
    """One sealed chunk of an upload that was begun."""

    letter: LetterIdField
    attachment: AttachmentIdField
    position: PositionField
    chunk: ChunkField = field(repr=False)


@dataclass(frozen=True, slots=True)
class GetChunk:
    """One sealed chunk of an attachment of a letter of the caller's box, once the letter was read."""

    author: UserIdField
    letter: LetterIdField
    attachment: AttachmentIdField
    position: PositionField


Command = (
    Create
    | List
    | New
    | All
    | Send
    | Recv
    | Receipt
    | Accept
    | Refuse
    | Delete
    | Status
    | Evidence
    | Block
    | Blocked
    | Watch
    | Close
    | Upload
    | PutChunk
    | GetChunk
)


# ------------------------------------------------------------------------------------------------------- results


@dataclass(frozen=True, slots=True)
class Person:
    """One registration with what a reader needs to check it. `revision` 1 is the first.

    `renewal`: which earlier card this one renews. `renewed_by`: which later card renews this one; a hint, which counts
    only when the registration of that card was looked up and its renewal verified.
    """

    user: UserIdField
    revision: Annotated[int, Range(1, REVISION_MAX)]
    registration: SignedDocument
    authentication_certificate: CertificateField
    signature_certificate: CertificateField | None
    intermediates: Annotated[tuple[CertificateField, ...], Size(0, limits.CERTIFICATES)]
    accepted: MomentField
    renewal: SignedRenewal | None = None
    renewed_by: UserIdField | None = None


@dataclass(frozen=True, slots=True)
class CreateResult:
    user: UserIdField
    revision: Annotated[int, Range(1, REVISION_MAX)]
    accepted: MomentField


@dataclass(frozen=True, slots=True)
class ListResult:
    """`next` is the value of `after` for the next page, absent on the last."""

    people: Annotated[tuple[Person, ...], Size(0, limits.LIST_PAGE)]
    next: UserIdField | None


@dataclass(frozen=True, slots=True)
class SlipView:
    """The slip of a letter that opens against a signature, as one of its people gets it.

    For a recipient: what they chose, and with an acceptance the release of their share (a COSE_Sign1).
    """

    slip: SignedSlip
    choice: Choice | None
    release: HeadField | None


@dataclass(frozen=True, slots=True)
class BoxEntry:
    """A mailbox entry, with what it records as its owner may see it (absent where it was not asked for).

    A letter or a receipt is a `view`; a letter to be signed for has its `slip` too; an acceptance, a refusal or an
    expiry is a `choice`, with the sealed reason of a refusal as `view`. A tombstone is a `deletion`; the letter that it
    names has no view any more.
    """

    entry: Entry
    view: sealed.SealedView | None
    read: bool
    slip: SlipView | None = None
    choice: SignedChoice | None = None
    deletion: SignedDeletion | None = None

    @property
    def object_hash(self) -> Digest | None:
        """What the entry must record if all that is shown is true; None where nothing is shown."""
        if self.deletion is not None:
            return self.deletion.object_hash
        shown = self.view.object_hash if self.view else None
        if self.choice is not None:
            return self.choice.object_hash(self.entry.routing.author, shown)
        if shown is not None and self.slip is not None:
            return sign_for.object_hash(shown, self.slip.slip.digest)
        return shown


@dataclass(frozen=True, slots=True)
class BoxResult:
    """NEW and ALL: entries in order, the signed head of the mailbox, and `next`, if there are more entries."""

    entries: Annotated[tuple[BoxEntry, ...], Size(0, limits.CHAIN_PAGE)]
    head: HeadField
    next: Annotated[int, Range(0, NUMBER_MAX)] | None


@dataclass(frozen=True, slots=True)
class SendResult:
    """The acceptance, with the signed placement: in the sender's mailbox, then in each recipient's in their order."""

    letter: LetterIdField
    accepted: MomentField
    placement: PlacementField


@dataclass(frozen=True, slots=True)
class RecvResult:
    """`body` is absent while a letter waits for the caller's signature, and after it was refused or has expired."""

    entry: BoxEntry
    body: Annotated[bytes, Size(1, limits.SEALED_BODY_BYTES)] | None


@dataclass(frozen=True, slots=True)
class ReceiptResult:
    """The acceptance of a receipt: its signed placement in the reader's mailbox."""

    accepted: MomentField
    placement: PlacementField


@dataclass(frozen=True, slots=True)
class ChoiceResult:
    """What stands for the caller and this slip, whoever asked for what: a choice is made once.

    With the signed placement in the caller's mailbox, and for an acceptance the release of the share.
    """

    choice: Choice
    accepted: MomentField
    placement: PlacementField
    release: HeadField | None


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """When the letter was deleted, this time or before, and the tombstone's signed placement in the own mailbox."""

    deleted: MomentField
    placement: PlacementField


@dataclass(frozen=True, slots=True)
class StatusResult:
    """The sender's own entry, the placement (as in SendResult) and the receipt entries for it, in order.

    `choices`: for a letter to be signed for, the entries of what its recipients chose.
    """

    letter: BoxEntry
    receipts: Annotated[tuple[BoxEntry, ...], Size(0, limits.RECIPIENTS)]
    placement: PlacementField
    choices: Annotated[tuple[BoxEntry, ...], Size(0, limits.RECIPIENTS)] = ()


@dataclass(frozen=True, slots=True)
class EvidenceResult:
    """Evidence of delivery, the repository's CMS signature over it, and the time stamps of entries that have one."""

    document: Annotated[bytes, Size(2, limits.DELIVERY_EVIDENCE_BYTES)]
    signature: Annotated[bytes, Size(1, limits.SIGNATURE_BYTES)]
    stamps: Annotated[tuple[EntryStamp, ...], Size(0, limits.DELIVERY_ENTRIES)]


@dataclass(frozen=True, slots=True)
class BlockResult:
    """What stands now, as it was asked for."""

    user: UserIdField
    blocked: bool


@dataclass(frozen=True, slots=True)
class BlockedResult:
    """In ascending order."""

    users: Annotated[tuple[UserIdField, ...], Size(0, limits.BLOCKED)]


@dataclass(frozen=True, slots=True)
class WatchResult:
    """Until when hints come."""

    until: MomentField


@dataclass(frozen=True, slots=True)
class CloseResult:
    closed: bool


@dataclass(frozen=True, slots=True)
class UploadResult:
    """Which chunks are there: bit `position % 8` of byte `position // 8`, the lowest bit first."""

    there: Annotated[bytes, Size(1, -(-_CHUNKS // 8))]


@dataclass(frozen=True, slots=True)
class PutChunkResult:
    """The chunk at this position is stored."""

    position: PositionField


@dataclass(frozen=True, slots=True)
class GetChunkResult:
    chunk: ChunkField = field(repr=False)


COMMANDS: Final[dict[str, type[Any]]] = {
    "CREATE": Create,
    "LIST": List,
    "NEW": New,
    "ALL": All,
    "SEND": Send,
    "RECV": Recv,
    "RECEIPT": Receipt,
    "ACCEPT": Accept,
    "REFUSE": Refuse,
    "DELETE": Delete,
    "STATUS": Status,
    "EVIDENCE": Evidence,
    "BLOCK": Block,
    "BLOCKED": Blocked,
    "WATCH": Watch,
    "CLOSE": Close,
    "UPLOAD": Upload,
    "PUT_CHUNK": PutChunk,
    "GET_CHUNK": GetChunk,
}
_NAMES: Final = {kind: name for name, kind in COMMANDS.items()}


@dataclass(frozen=True, slots=True)
class Request:
    """The body of a command envelope."""

    command: Command
    nonce: bytes
    time: Milliseconds


@dataclass(frozen=True, slots=True)
class _RequestBody:
    command: Annotated[str, Size(1, 16)]
    nonce: NonceField
    time: MomentField


@dataclass(frozen=True, slots=True)
class _ErrorBody:
    code: ErrorCode
    message: Annotated[str, Size(1, MESSAGE_BYTES)]


@dataclass(frozen=True, slots=True)
class _ReplyBody:
    nonce: NonceField
    time: MomentField


def name_of(command: Command) -> str:
    """The command's name on the wire."""
    return _NAMES[type(command)]


def encode_request(command: Command, nonce: bytes, now: Milliseconds) -> bytes:
    """The body of a command envelope. Raises Malformed or LimitExceeded before anything is sent."""
    body = schema.to_map(_RequestBody(name_of(command), nonce, now))
    data = cbor.encode({**body, "arguments": schema.to_map(command)})
    if len(data) > limits.ENVELOPE_BYTES - limits.KIB:
        raise LimitExceeded(f"a command of {len(data)} bytes, over the limit")
    return data


@dataclass(frozen=True, slots=True)
class UnreadRequest:
    """A request body that is CBOR and has a nonce, to which even a refusal can be bound. The rest is unchecked."""

    nonce: bytes = field(repr=False)
    _fields: dict[Any, Any] = field(repr=False)

    def read(self) -> Request:
        """The typed request. Raises Malformed or LimitExceeded."""
        fields = dict(self._fields)
        arguments = fields.pop("arguments", None)
        body = schema.from_map(_RequestBody, fields)
        kind = COMMANDS.get(body.command)
        if kind is None:
            raise Malformed("an unknown command")
        return Request(schema.from_map(kind, arguments), body.nonce, body.time)


def open_request(data: bytes) -> UnreadRequest:
    """The body of a command or confirm envelope, decoded once. Raises Malformed or LimitExceeded."""
    fields = cbor.decode(data, limits.ENVELOPE_BYTES)
    nonce = fields.get("nonce") if type(fields) is dict else None
    if type(nonce) is not bytes or len(nonce) != NONCE_BYTES:
        raise Malformed("a request without a nonce: no reply could be bound to it")
    return UnreadRequest(nonce, fields)


def decode_request(data: bytes) -> Request:
    """The typed request in one step. Raises Malformed or LimitExceeded."""
    return open_request(data).read()


def encode_reply(nonce: bytes, now: Milliseconds, result: Any) -> bytes:
    """The body of a reply with a result."""
    return cbor.encode({**schema.to_map(_ReplyBody(nonce, now)), "result": schema.to_map(result)})


def encode_refusal(nonce: bytes, now: Milliseconds, code: ErrorCode, message: str) -> bytes:
    """The body of a reply that refuses; `message` says in one line what happened and what to do."""
    text = message.encode("utf-8", "replace")[:MESSAGE_BYTES].decode("utf-8", "ignore") or code.value
    return cbor.encode({**schema.to_map(_ReplyBody(nonce, now)), "error": schema.to_map(_ErrorBody(code, text))})


def decode_reply(data: bytes, kind: type[R], nonce: bytes) -> R:
    """The result in a reply body that answers `nonce`.

    Raises RefusedByRepository for a refusal, BindingMismatch for another nonce, Malformed.
    """
    value = cbor.decode(data, limits.ENVELOPE_BYTES)
    if type(value) is not dict:
        raise Malformed("a reply is a map")
    result, error = value.pop("result", None), value.pop("error", None)
    body = schema.from_map(_ReplyBody, value)
    if not suite.equal(body.nonce, nonce):
        raise BindingMismatch("the reply carries another nonce")
    if error is not None and result is None:
        refusal = schema.from_map(_ErrorBody, error)
        raise RefusedByRepository(refusal.code, refusal.message)
    if error is not None:
        raise Malformed("a reply with a result and an error")
    return schema.from_map(kind, result)

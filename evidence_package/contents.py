"""What lies in a package, and under which names.

    mimetype                     first
    README.txt                   how to check all this with OpenSSL alone (see `readme`)
    SHA256SUMS                   of every file but itself and META-INF
    package.json                 whose package it is: repository, letter, exporter, time
    letter.json, letter.p7s      what the sender's card signed
    content/body.*, body.salt    the body as it was sent, and the salt of its digest; the same for the subject; not in a
                                 redacted package
    documents/TYPE-N.json, .p7s  what else cards signed about it: reading receipts, slip, acceptances, refusals
    content/refusal-N-reason.*   the reason that refusal N gives, and its salt; not in a redacted package
    registrations/N.json, .p7s   which certificates each of these citizens registered
    evidence/delivery.json, .p7s what the repository recorded, and operator-root.pem, its operator's root
    timestamps/N.json, N.tst     of entries of that: what stands in the stamped tree, and the time stamp of its root;
                                 N.proof.json: how the one leads to the other
    certificates.pem, crls.pem   certificates and revocation lists of the time; revocation/N.ocsp: OCSP answers
    META-INF/                    the manifest and the exporter's signature

Reading gives values; writing them again must give the same files.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

from crypto_core import canonical_json, delivery, limits, schema, suite
from crypto_core.delivery import EntryStamp
from crypto_core.documents import VERSION, Party, Refusal, SignedDocument
from crypto_core.errors import ProtocolError
from crypto_core.ids import Digest, DigestField, LetterIdField, MomentField, NonceField, RepositoryIdField
from crypto_core.schema import Size
from evidence_package import container, manifest, readme
from evidence_package.errors import PackageRefused

DOCUMENTS: Final = 512  #: signed documents about one letter
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\n([A-Za-z0-9+/=\n]+)-----END \1-----\n")
_TYPE: Final = re.compile(r"[a-z][a-z-]{0,30}\Z")


@dataclass(frozen=True, slots=True)
class Description:
    """`package.json`. The exporter is a citizen as registered; `exported` is the exporter's own clock."""

    TYPE: ClassVar[str] = "evidence-package"

    repository: RepositoryIdField
    repository_name: Annotated[str, Size(1, 128)]
    letter: LetterIdField
    exporter: Party
    exported: MomentField


@dataclass(frozen=True, slots=True)
class Disclosed:
    """A part of the letter with the salt of its digest in the signed document."""

    data: bytes
    salt: NonceField


@dataclass(frozen=True, slots=True)
class Reason:
    """The reason that a refusal (SHA-256 of its document) gives, with the salt of its digest there."""

    refusal: Digest
    text: Disclosed


@dataclass(frozen=True, slots=True)
class Package:
    """Everything but the manifest and its signature. Nothing of it is verified."""

    description: Description
    letter: SignedDocument
    subject: Disclosed | None
    body: Disclosed | None
    documents: tuple[SignedDocument, ...]
    reasons: tuple[Reason, ...]
    registrations: tuple[SignedDocument, ...]
    evidence: SignedDocument
    operator_root: bytes
    stamps: tuple[EntryStamp, ...]
    certificates: tuple[bytes, ...]
    crls: tuple[bytes, ...]
    ocsp: tuple[bytes, ...]


def write(package: Package) -> dict[str, bytes]:
    """The data objects by name, in their order. Raises PackageRefused."""
    files: dict[str, bytes] = {"package.json": _description(package.description)}
    _put(files, "letter", package.letter)
    for name, part in (("subject", package.subject), ("body", package.body)):
        if part is not None:
            _disclose(files, name, part)
    reasons = {each.refusal: each.text for each in package.reasons}
    for name, signed in _numbered(package.documents):
        _put(files, f"documents/{name}", signed)
        if type_of(signed) == Refusal.TYPE and signed.digest in reasons:
            _disclose(files, f"{name}-reason", reasons[signed.digest])
    for number, signed in enumerate(_sorted_documents(package.registrations), 1):
        _put(files, f"registrations/{number}", signed)
    _put(files, "evidence/delivery", package.evidence)
    files |= _stamps(package)
    files["evidence/operator-root.pem"] = _pem("CERTIFICATE", [package.operator_root])
    files["certificates.pem"] = _pem("CERTIFICATE", _sorted(package.certificates))
    if package.crls:
        files["crls.pem"] = _pem("X509 CRL", _sorted(package.crls))
    for number, answer in enumerate(_sorted(package.ocsp), 1):
        files[f"revocation/{number}.ocsp"] = answer
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    return {
        "mimetype": container.MEDIA_TYPE.encode(),
        "README.txt": readme.write(files),
        "SHA256SUMS": sums.encode(),
        **files,
    }


def read(files: Mapping[str, bytes]) -> Package:
    """The package in these data objects. Raises PackageRefused unless `write` would give the same again."""
    try:
        package = Package(
            description=_read_description(_take(files, "package.json")),
            letter=_signed(files, "letter"),
            subject=_part(files, "subject"),
            body=_part(files, "body"),
            documents=_all_signed(files, "documents/"),
            reasons=_reasons(files),
            registrations=_all_signed(files, "registrations/"),
            evidence=_signed(files, "evidence/delivery"),
            operator_root=_one(_read_pem("CERTIFICATE", _take(files, "evidence/operator-root.pem"))),
            stamps=_read_stamps(files),
            certificates=_read_pem("CERTIFICATE", _take(files, "certificates.pem")),
            crls=_read_pem("X509 CRL", files["crls.pem"]) if "crls.pem" in files else (),
            ocsp=tuple(data for name, data in files.items() if name.startswith("revocation/")),
        )
        again = write(package)
    except ProtocolError as error:
        raise PackageRefused(f"a document in it cannot be read: {error}") from error
    if list(again) != list(files):
        strange = again.keys() ^ files.keys()
        raise PackageRefused(f"its files are not those of a package: {container.names(strange) or 'another order'}")
    for name, data in again.items():
        if data != files[name]:
            raise PackageRefused(f"{name} is not what belongs to the other files")
    return package


def seal(package: Package, signature: bytes) -> bytes:
    """The container, from a package and the exporter's signature over `manifest_of(package)`."""
    return container.write({**_with_manifest(write(package)), manifest.SIGNATURE_NAME: signature})


def manifest_of(package: Package) -> bytes:
    """What the exporter's card signs."""
    return _with_manifest(write(package))[manifest.NAME]


def _with_manifest(files: dict[str, bytes]) -> dict[str, bytes]:
    # The mimetype is no data object: it stands in front so that the file can be told by its first bytes.
    listed = {name: data for name, data in files.items() if name != "mimetype"}
    return {**files, manifest.NAME: manifest.write(listed)}


def open_(data: bytes) -> tuple[Package, bytes, SignedDocument]:
    """A container taken apart: the package, and the manifest with the exporter's signature, not verified.

    Raises PackageRefused.
    """
    files = container.read(data)
    signature = files.pop(manifest.SIGNATURE_NAME, b"")
    shown = files.pop(manifest.NAME, b"")
    package = read(files)
    if _with_manifest(files)[manifest.NAME] != shown:
        raise PackageRefused("its manifest does not list exactly the files that are there, with their SHA-256")
    return package, shown, SignedDocument(shown, signature)


# --- signed documents -----------------------------------------------------------------------------------------------


def _put(files: dict[str, bytes], name: str, signed: SignedDocument) -> None:
    files[f"{name}.json"] = signed.document
    files[f"{name}.p7s"] = signed.signature


def _signed(files: Mapping[str, bytes], name: str) -> SignedDocument:
    return SignedDocument(_take(files, f"{name}.json"), _take(files, f"{name}.p7s"))


def _all_signed(files: Mapping[str, bytes], folder: str) -> tuple[SignedDocument, ...]:
    stems = [name[: -len(".json")] for name in files if name.startswith(folder) and name.endswith(".json")]
    if len(stems) > DOCUMENTS:
        raise PackageRefused(f"it has more than {DOCUMENTS} documents in {folder}")
    return tuple(_signed(files, stem) for stem in stems)


def _sorted_documents(signed: Iterable[SignedDocument]) -> list[SignedDocument]:
    return sorted(set(signed), key=lambda each: (each.digest, each.signature_digest))


def _numbered(signed: Iterable[SignedDocument]) -> list[tuple[str, SignedDocument]]:
    """Named after what they are: `reading-receipt-1`."""
    counts: dict[str, int] = {}
    result = []
    for each in _sorted_documents(signed):
        kind = type_of(each)
        counts[kind] = counts.get(kind, 0) + 1
        result.append((f"{kind}-{counts[kind]}", each))
    return sorted(result, key=lambda named: (type_of(named[1]), int(named[0].rpartition("-")[2])))


def type_of(signed: SignedDocument) -> str:
    """The type of a signed document, as it says itself. Raises PackageRefused, ProtocolError."""
    members: Any = canonical_json.decode(signed.document)
    kind = members.get("type") if type(members) is dict else None
    if type(kind) is not str or not _TYPE.match(kind):
        raise PackageRefused("a signed document in it does not say what it is")
    return kind


# --- time stamps ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Proof:
    """`N.proof.json`: the leaf's place in a tree, and the hashes beside its way up to the root."""

    entry: int
    index: int
    size: int
    path: tuple[DigestField, ...]


def _stamps(package: Package) -> dict[str, bytes]:
    if not package.stamps:
        return {}
    files: dict[str, bytes] = {}
    evidence = delivery.decode(package.evidence.document, package.description.repository)
    for number, stamp in enumerate(sorted(package.stamps, key=lambda each: each.entry), 1):
        if stamp.entry >= len(evidence.entries):
            raise PackageRefused("a time stamp in it is of an entry that the evidence does not have")
        leaf = delivery.leaf_of(evidence, evidence.entries[stamp.entry])
        proof = _Proof(stamp.entry, stamp.index, stamp.size, stamp.path)
        files[f"timestamps/{number}.json"] = delivery.encode_leaf(leaf)
        files[f"timestamps/{number}.proof.json"] = canonical_json.encode(schema.to_document(proof))
        files[f"timestamps/{number}.tst"] = stamp.token
    return files


def _read_stamps(files: Mapping[str, bytes]) -> tuple[EntryStamp, ...]:
    found = []
    for name, data in files.items():
        if name.startswith("timestamps/") and name.endswith(".proof.json"):
            proof = schema.from_document(_Proof, canonical_json.decode(data))
            token = _take(files, name.replace(".proof.json", ".tst"))
            stamp = EntryStamp(proof.entry, proof.index, proof.size, proof.path, token)
            schema.to_map(stamp)  # within its bounds
            found.append(stamp)
    return tuple(found)


# --- small parts ----------------------------------------------------------------------------------------------------


def _description(description: Description) -> bytes:
    return canonical_json.encode({**schema.to_document(description), "type": Description.TYPE, "version": VERSION})


def _read_description(data: bytes) -> Description:
    members: Any = canonical_json.decode(data, limits.DOCUMENT_BYTES)
    if type(members) is not dict or (members.pop("type", None), members.pop("version", None)) != (
        Description.TYPE,
        VERSION,
    ):
        raise PackageRefused(f"package.json is not of type {Description.TYPE}, version {VERSION}")
    return schema.from_document(Description, members)


def _part(files: Mapping[str, bytes], name: str) -> Disclosed | None:
    found = [file for file in (f"content/{name}.txt", f"content/{name}.bin") if file in files]
    if not found:
        return None
    return Disclosed(files[found[0]], _take(files, f"content/{name}.salt"))


def _disclose(files: dict[str, bytes], name: str, part: Disclosed) -> None:
    files[f"content/{name}.txt" if _is_text(part.data) else f"content/{name}.bin"] = part.data
    files[f"content/{name}.salt"] = part.salt


def _reasons(files: Mapping[str, bytes]) -> tuple[Reason, ...]:
    """Found by the names of refusals: `write` gives them to refusals alone."""
    found = []
    for name in (name for name in files if name.startswith("documents/refusal-") and name.endswith(".json")):
        text = _part(files, name[len("documents/") : -len(".json")] + "-reason")
        if text is not None:
            found.append(Reason(suite.sha256(files[name]), text))
    return tuple(found)


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _take(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise PackageRefused(f"{name} is missing")
    return files[name]


def _sorted(items: Iterable[bytes]) -> list[bytes]:
    return sorted(set(items), key=lambda each: hashlib.sha256(each).digest())


def _pem(label: str, items: Iterable[bytes]) -> bytes:
    """RFC 7468, strict: 64 columns."""
    texts = []
    for each in items:
        lines = "\n".join(textwrap.wrap(base64.b64encode(each).decode(), 64))
        texts.append(f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
    return "".join(texts).encode()


def _read_pem(label: str, data: bytes) -> tuple[bytes, ...]:
    try:
        found = [(kind.decode(), base64.b64decode(text)) for kind, text in _PEM.findall(data)]
    except binascii.Error as error:
        raise PackageRefused("a PEM file in it cannot be read") from error
    if any(kind != label for kind, _ in found):
        raise PackageRefused(f"a PEM file in it holds something else than {label}")
    return tuple(der for _, der in found)


def _one(items: tuple[bytes, ...]) -> bytes:
    if len(items) != 1:
        raise PackageRefused("evidence/operator-root.pem does not hold exactly one certificate")
    return items[0]

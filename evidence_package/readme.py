"""README.txt of a package: how to check all of it with OpenSSL 3, sha256sum and unzip, command by command.

Made from the other files alone. Lines that begin with four spaces are commands for bash, in the folder into which the
package was unzipped; a test runs exactly these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from crypto_core import canonical_json, cbor, labels, limits, moments
from crypto_core.documents import Acceptance, Refusal
from evidence_package import manifest
from evidence_package.errors import PackageRefused

_HEAD: Final = """\
Evidence package: a letter between citizens, and what proves it

This is an ASiC-E container with CAdES (ETSI EN 319 162-1): a ZIP file whose list of contents somebody signed with a
Citizen Card. `smr verify FILE` checks everything and explains each result. Without that program, follow this page: it
needs bash, unzip, sha256sum and OpenSSL 3. Every command must end without an error.

You need two things from another source, since nothing in a file can vouch for itself:

  * the state's root certificate, as a PEM file; put its path where the first command says it
  * the SHA-256 fingerprint of the operator's root, as the operator of the repository publishes it

    STATE_ROOT="${STATE_ROOT:-state-root.pem}"

1. The files are those that the exporter signed

    sha256sum --check --quiet SHA256SUMS"""
_REVOCATION: Final = "-CRLfile crls.pem -crl_check_all -extended_crl -use_deltas "


def write(files: Mapping[str, bytes]) -> bytes:
    """The page for these data objects. Raises PackageRefused or ProtocolError where a document cannot be read."""
    try:
        return "\n".join(_lines(files)).encode() + b"\n"
    except (KeyError, TypeError, AttributeError, UnicodeEncodeError) as error:
        raise PackageRefused("a document in it lacks what its type asks for") from error


def _lines(files: Mapping[str, bytes]) -> Iterator[str]:
    about = _json(files, "package.json")
    delivery = _json(files, "evidence/delivery.json", limits.DELIVERY_EVIDENCE_BYTES)
    yield _HEAD
    for name in ("README.txt", "SHA256SUMS"):
        yield f'    grep --quiet --fixed-strings "$(openssl dgst -sha256 -binary {name} | base64)" {manifest.NAME}'
    exported = _seconds(about["exported"])
    yield from _signature(files, manifest.NAME, manifest.SIGNATURE_NAME, exported, about["exporter"]["registration"])
    yield ""
    yield from _letter(files, delivery)
    yield from _documents(files, delivery)
    yield from _registrations(files)
    yield from _evidence(files, delivery)


def _letter(files: Mapping[str, bytes], delivery: Any) -> Iterator[str]:
    letter = _json(files, "letter.json")
    recorded = _time(files, "letter", delivery)
    yield f"2. The letter was signed by its sender's card, good when it was recorded: {recorded}"
    yield ""
    at = _seconds(recorded)
    yield from _signature(files, "letter.json", "letter.p7s", at, letter["from"]["registration"])
    yield ""
    for part in ("subject", "body"):
        name = next((name for name in files if name in (f"content/{part}.txt", f"content/{part}.bin")), None)
        if name is None:
            yield f"The {part} is not included: its digest in letter.json is salted, and tells nothing of it."
            continue
        yield f"The {part} has the digest that stands in letter.json, over a label, the salt and its bytes (CBOR)."
        yield ""
        yield from _digest(name, f"content/{part}.salt", len(files[name]), "letter.json")
        yield ""


def _digest(name: str, salt: str, size: int, document: str) -> Iterator[str]:
    before = _octal(b"\x83" + cbor.encode(labels.CONTENT_DIGEST) + b"\x58\x20")
    header = _octal(cbor.encode(bytes(size))[: -size or None])
    yield f"    {{ printf '{before}'; cat {salt}; printf '{header}'; cat {name}; }} > /tmp/digest-input.$$"
    yield '    DIGEST="$(sha256sum < /tmp/digest-input.$$ | cut -c 1-64)"; rm /tmp/digest-input.$$'
    yield f'    grep --quiet --fixed-strings "$DIGEST" {document}'


def _documents(files: Mapping[str, bytes], delivery: Any) -> Iterator[str]:
    stems = [name[: -len(".json")] for name in files if name.startswith("documents/") and name.endswith(".json")]
    yield "3. What else was signed about it" if stems else "3. Nothing else that was signed about it is included."
    yield ""
    for stem in stems:
        document = _json(files, f"{stem}.json")
        party = document.get("reader") or document.get("from") or {}
        yield f"{stem}.json, recorded at {_time(files, stem, delivery)}"
        yield ""
        at = _seconds(_time(files, stem, delivery))
        yield from _signature(files, f"{stem}.json", f"{stem}.p7s", at, party.get("registration", ""))
        yield ""
        yield from _choice(files, stem, document)


def _choice(files: Mapping[str, bytes], stem: str, document: Any) -> Iterator[str]:
    """What an acceptance or a refusal names: the slip, and a reason by its salted digest."""
    if document["type"] not in (Acceptance.TYPE, Refusal.TYPE):
        return
    slips = [name for name in files if name.startswith("documents/slip-") and name.endswith(".json")]
    if slips:
        yield f"It names the slip {slips[0]} by its SHA-256."
        yield ""
        yield f'    grep --quiet --fixed-strings "$(sha256sum < {slips[0]} | cut -c 1-64)" {stem}.json'
        yield ""
    name = stem.replace("documents/", "content/") + "-reason"
    text = next((each for each in files if each in (f"{name}.txt", f"{name}.bin")), None)
    if text is not None:
        yield "The reason has the digest that stands in it."
        yield ""
        yield from _digest(text, f"{name}.salt", len(files[text]), f"{stem}.json")
        yield ""


def _registrations(files: Mapping[str, bytes]) -> Iterator[str]:
    yield "4. Which certificates these citizens had registered, signed with their authentication keys"
    yield ""
    for name in (name for name in files if name.startswith("registrations/") and name.endswith(".json")):
        at = _seconds(_json(files, name)["time"])
        yield from _signed(name, name.replace(".json", ".p7s"), at)
    yield ""


def _evidence(files: Mapping[str, bytes], delivery: Any) -> Iterator[str]:
    yield "5. What the repository has recorded, and when. Compare the fingerprint with what the operator publishes."
    yield ""
    yield "    openssl x509 -in evidence/operator-root.pem -noout -subject -fingerprint -sha256"
    at = _seconds(delivery["time"])
    cms = _cms("evidence/delivery.json", "evidence/delivery.p7s")
    yield f"    {cms} -attime {at} -CAfile evidence/operator-root.pem -out /dev/null"
    # The repository names a slip, which its author signed beside the letter, without that signature.
    unnamed = [name for name in files if name.startswith("documents/slip-") and name.endswith(".p7s")]
    named = [name for name in files if name.startswith(("letter.", "documents/")) and name not in unnamed]
    yield f"    for FILE in {' '.join(named)}; do"
    yield '    grep --quiet --fixed-strings "$(sha256sum < $FILE | cut -c 1-64)" evidence/delivery.json || exit 1'
    yield "    done"
    yield from _stamps(files)


def _stamps(files: Mapping[str, bytes]) -> Iterator[str]:
    names = [name for name in files if name.startswith("timestamps/") and name.endswith(".proof.json")]
    if not names:
        return
    yield ""
    yield "6. Time stamps (RFC 3161): each entry is a leaf of a tree of hashes (RFC 9162), whose root was stamped."
    yield ""
    yield "The root certificate of the authority comes from another source too. Where one of its certificates has"
    yield "expired since, openssl ts needs -attime with the time that openssl ts -reply -in FILE -token_in -text shows."
    yield ""
    yield '    TSA_ROOT="${TSA_ROOT:-tsa-root.pem}"'
    yield "    bytes() { printf \"$(sed 's/../\\\\x&/g')\"; }"
    for name in names:
        stem = name[: -len(".proof.json")]
        proof = _json(files, name)
        yield f"    H=\"$({{ printf '\\000'; cat {stem}.json; }} | sha256sum | cut -c 1-64)\""
        for left, neighbour in _way(proof["index"], proof["size"], proof["path"]):
            pair = f"{neighbour}${{H}}" if left else f"${{H}}{neighbour}"
            yield f'    H="$(printf 01{pair} | bytes | sha256sum | cut -c 1-64)"'
        yield f'    openssl ts -verify -digest "$H" -in {stem}.tst -token_in -CAfile "$TSA_ROOT"'


def _way(index: int, size: int, path: list[str]) -> Iterator[tuple[bool, str]]:
    """The neighbours on the way up, each with whether it stands to the left (as `merkle.root_from`)."""
    last, left = size - 1, list(path)
    while last and left:
        if index % 2 or index < last:
            yield bool(index % 2), str(left.pop(0))
        index, last = index // 2, last // 2


def _signature(files: Mapping[str, bytes], name: str, signature: str, at: int, registration: str) -> Iterator[str]:
    """The signature, its certificate's path and revocation, and that the certificate is the registered one."""
    yield from _signed(name, signature, at, _REVOCATION if "crls.pem" in files else "")
    for each in files:
        if each.startswith("registrations/") and hashlib.sha256(files[each]).hexdigest() == registration:
            yield (
                '    grep --quiet --fixed-strings "$(openssl x509 -in signer.pem -outform DER | sha256sum '
                f'| cut -c 1-64)" {each}'
            )


def _signed(name: str, signature: str, at: int, options: str = "") -> Iterator[str]:
    """The signature holds, and the certificate that made it leads to the state's root."""
    yield f"    {_cms(name, signature)} -noverify -signer signer.pem -out /dev/null"
    yield (
        f'    openssl verify -attime {at} -purpose any -CAfile "$STATE_ROOT" -untrusted certificates.pem '
        f"{options}signer.pem"
    )


def _cms(name: str, signature: str) -> str:
    return f"openssl cms -verify -binary -purpose any -inform DER -in {signature} -content {name}"


def _time(files: Mapping[str, bytes], stem: str, delivery: Any) -> str:
    """When the repository recorded a document; where it did not, when that document itself says that it was signed."""
    digest = hashlib.sha256(files[f"{stem}.json"]).hexdigest()
    times = [str(each["time"]) for each in delivery["entries"] if digest in (each["document"], each.get("slip"))]
    return min(times) if times else str(_json(files, f"{stem}.json")["time"])


def _json(files: Mapping[str, bytes], name: str, most: int = limits.DOCUMENT_BYTES) -> Any:
    return canonical_json.decode(files[name], most)


def _seconds(moment: str) -> int:
    return moments.from_text(moment) // 1000


def _octal(data: bytes) -> str:
    return "".join(f"\\{byte:03o}" for byte in data)

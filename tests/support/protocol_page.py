"""Writes the generated parts of docs/PROTOCOL.md: labels, limits and the worked exchange.

    python -m tests.support.protocol_page          # write the page from the code and the kept exchange
    python -m tests.support.protocol_page --new    # make another exchange first

A test compares the page with what this module writes, so that neither can change alone.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from pathlib import Path

from crypto_core import labels, limits
from tests.support import worked_exchange
from tests.support.worked_exchange import Values

PAGE = Path(__file__).parents[2] / "docs" / "PROTOCOL.md"

#: title, text, and the values that are shown (from the file or derived)
STEPS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "Keys",
        "Seeds as in section 3. Maria writes; Bruno reads.",
        (
            "repository_signing_seed",
            "repository_sealing_seed",
            "app_seed",
            "maria_certificate",
            "maria",
            "maria_sealing_seed",
            "bruno",
            "bruno_sealing_seed",
        ),
    ),
    (
        "Descriptor",
        "The whole COSE_Sign1. To keep the example short the root itself signs, and stands twice in x5chain.",
        ("descriptor", "repository_hash", "repository"),
    ),
    (
        "hello",
        "The client's ephemeral keys, the decrypted payload of the inner COSE_Sign1, and the message as sent.",
        ("client_x25519", "client_mlkem_seed", "hello_body", "hello"),
    ),
    (
        "answer",
        "The message, both shared secrets, and the key schedule.",
        ("answer", "x25519_secret", "mlkem_secret", "th1", "prk", "offer", "session", "th2", "c2r", "r2c", "finished"),
    ),
    (
        "confirm",
        "The login that the card signs, its CMS signature, the command key with its IV, and the message.",
        ("login_document", "login_signature", "confirm_salt", "confirm_key", "confirm"),
    ),
    ("active", "The reply, and its body after opening.", ("active", "active_body")),
    (
        "A letter",
        "The signed document, its CMS signature, the content secret, and the two sealed parts, without evidence.",
        (
            "letter_id",
            "letter_document",
            "letter_signature",
            "content_secret",
            "commitment",
            "head",
            "object_hash",
            "sealed_body",
            "subject",
            "body",
        ),
    ),
    (
        "SEND",
        "Command 1 carries the letter. The reply carries its signed placement in the two mailboxes.",
        (
            "send_salt",
            "send_key",
            "nonce",
            "send_body_digest",
            "send",
            "send_reply",
            "send_reply_body",
            "sent_entry",
            "received_entry",
        ),
    ),
)
TEXTS = frozenset({"login_document", "letter_document", "repository"})


def render(page: str, values: Values) -> str:
    """The page with its generated parts written anew."""
    page = _replace(page, "labels", _labels())
    page = _replace(page, "limits", _limits())
    return _replace(page, "exchange", _exchange(values | worked_exchange.replay(values) | {"now": values["now"]}))


def _replace(page: str, name: str, content: str) -> str:
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = page.split(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"


def _labels() -> str:
    names = [value for name, value in vars(labels).items() if name.isupper() and name != "VERSION"]
    return "```\n" + "\n".join(names) + "\n```"


def _limits() -> str:
    rows = ["| limit | value | of what |", "|---|---|---|"]
    for name, _, comment in re.findall(r"^([A-Z_]+): Final = (.+?)  #: (.+)$", inspect.getsource(limits), re.MULTILINE):
        rows.append(f"| `{name}` | {getattr(limits, name):,} | {comment} |")
    return (
        "\n".join(rows)
        + "\n\nSizes are in bytes, and names that end in `_MS` in milliseconds, unless the text says otherwise."
    )


def _exchange(values: Values) -> str:
    intro = (
        f"At {values['now']} everywhere. All values are also in `docs/worked-exchange.json`. Values are hexadecimal; "
    )
    lines = [intro + "documents are shown as the text that they are."]
    for title, text, names in STEPS:
        lines += ["", f"### {title}", "", text, "", "```"]
        for name in names:
            lines += _value(name, values[name])
        lines.append("```")
    return "\n".join(lines)


def _value(name: str, value: str) -> list[str]:
    if name in TEXTS and name != "repository":
        value = bytes.fromhex(value).decode()
    wrapped = textwrap.wrap(value, 112, drop_whitespace=False, break_on_hyphens=False)
    return [f"{name} ="] + [f"  {line}" for line in wrapped]


def main() -> None:
    if "--new" in sys.argv[1:]:
        worked_exchange.save(worked_exchange.make(worked_exchange.current_moment()))
    PAGE.write_text(render(PAGE.read_text("utf-8"), worked_exchange.load()), "utf-8")
    print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()

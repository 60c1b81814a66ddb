"""The limits that both sides keep, each with its unit. A limit is checked before anything is lost or allocated.

Sizes in bytes unless a name says otherwise; times in milliseconds where a name ends in `_MS`.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
SECOND_MS: Final = 1000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

# Wire objects
CBOR_DEPTH: Final = 16  #: nested containers
ENVELOPE_BYTES: Final = 10 * MIB  #: one message on the broker, either way
HANDSHAKE_BYTES: Final = 64 * KIB  #: hello, answer, descriptor request and answer
DOCUMENT_BYTES: Final = 64 * KIB  #: one canonical JSON document that a card signs
SIGNATURE_BYTES: Final = 64 * KIB  #: one detached CMS signature with its certificates
CERTIFICATE_BYTES: Final = 8 * KIB  #: one certificate, DER
CERTIFICATES: Final = 8  #: certificates that travel with one registration

# Letters
BODY_BYTES: Final = 8 * MIB  #: the body of a letter, before sealing
SUBJECT_BYTES: Final = 1 * KIB  #: the subject, UTF-8
RENEWALS: Final = 16  #: cards of one citizen that renew each other, one after the other
RECIPIENTS: Final = 64  #: recipients of one letter, its sender not counted
HEAD_BYTES: Final = 192 * KIB  #: the head part of a letter, before sealing
SEALED_HEAD_BYTES: Final = 512 * KIB  #: a sealed head with the key wraps of all recipients
PROTECTED_BYTES: Final = 8 * KIB  #: the protected header of a sealed head or receipt
SEALED_BODY_BYTES: Final = BODY_BYTES + 4 * KIB
RECEIPT_BYTES: Final = 192 * KIB  #: a sealed receipt
EVIDENCE_BYTES: Final = 48 * KIB  #: revocation lists and OCSP answers sent along with one letter or receipt
EVIDENCE_ITEMS: Final = 16  #: lists, and as many answers, among them
REASON_BYTES: Final = 1 * KIB  #: why a letter was refused, UTF-8
SEALED_REASON_BYTES: Final = 16 * KIB  #: the same, sealed

# Attachments
ATTACHMENTS: Final = 64  #: attachments of one letter
ATTACHMENT_BYTES: Final = 2048 * MIB  #: one attachment, before sealing
ATTACHMENT_NAME_BYTES: Final = 255  #: the file name of an attachment, UTF-8
CHUNK_BYTES: Final = 512 * KIB  #: every chunk of an attachment but the last, before sealing
UPLOAD_MS: Final = 3 * DAY_MS  #: how long chunks wait for their letter
DELIVERY_EVIDENCE_BYTES: Final = 256 * KIB  #: the repository's evidence about one letter
DELIVERY_ENTRIES: Final = 512  #: mailbox entries in it
STAMP_LEAVES: Final = 2**20  #: mailbox entries under one time stamp
STAMP_PATH: Final = 20  #: hashes in the proof of one of them
STAMP_TOKEN_BYTES: Final = 16 * KIB  #: a time stamp with its certificates
PACKAGE_REVOCATION_BYTES: Final = 8 * MIB  #: revocation lists and OCSP answers that an evidence package adds
PACKAGE_REVOCATION_ITEMS: Final = 256  #: lists, and as many answers, among them

# Lists
LIST_PAGE: Final = 50  #: people in one LIST reply
LIST_PAGES_A_MINUTE: Final = 60  #: LIST pages that one citizen may ask for in a minute
QUERY_BYTES: Final = 256
PLACEMENT_BYTES: Final = 16 * KIB  #: a signed placement, with a place for each recipient
MAILBOX_PAGE: Final = 100  #: entries in one NEW or ALL reply that carries heads
CHAIN_PAGE: Final = 2000  #: entries in one ALL reply without heads
PAGE_BYTES: Final = 4 * MIB  #: payload of one page
BLOCKED: Final = 1000  #: people whom one citizen may block

# Time
ROLL_BACK_MS: Final = 2 * MINUTE_MS  #: how much later a shorter mailbox must have been signed to prove a roll-back
CLOCK_SKEW_MS: Final = 5 * MINUTE_MS  #: how far the clocks of client and repository may differ
HANDSHAKE_MS: Final = 10 * MINUTE_MS  #: from answer to confirm: includes the time to find and type a PIN
SESSION_MS: Final = 8 * HOUR_MS  #: life of a session
SESSION_COMMANDS: Final = 100_000  #: commands in one session
DESCRIPTOR_MS: Final = 400 * DAY_MS  #: longest validity of a descriptor
SIGN_FOR_MS: Final = 366 * DAY_MS  #: longest time for which a letter can wait for a signature
WATCH_MS: Final = 10 * MINUTE_MS  #: how long a WATCH counts, unless it is repeated
COUNTER_MAX: Final = SESSION_COMMANDS  #: highest counter that a repository accepts

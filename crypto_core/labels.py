"""Every domain-separation label of the protocol, in one place, so that nobody has to search whether two are alike.

A label is the first element of everything that software hashes, signs or derives, and the `LABEL` header of every
COSE object. All of them carry the protocol version: a new version changes every key and every signature.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = "smr/1"

# Session negotiation
DESCRIPTOR: Final = "smr/1 descriptor"
DESCRIPTOR_REQUEST: Final = "smr/1 descriptor request"
DESCRIPTOR_ANSWER: Final = "smr/1 descriptor answer"
REPOSITORY_ID: Final = "smr/1 repository id"
HELLO: Final = "smr/1 session hello"
HELLO_SEAL: Final = "smr/1 session hello seal"
ANSWER: Final = "smr/1 session answer"
ANSWER_SEAL: Final = "smr/1 session answer seal"
TRANSCRIPT_1: Final = "smr/1 transcript 1"
TRANSCRIPT_2: Final = "smr/1 transcript 2"
KEY_SCHEDULE: Final = "smr/1 key schedule"
CLIENT_TO_REPOSITORY: Final = "smr/1 client to repository"
REPOSITORY_TO_CLIENT: Final = "smr/1 repository to client"
FINISHED_KEY: Final = "smr/1 finished key"
FINISHED: Final = "smr/1 finished"
COOKIE: Final = "smr/1 session cookie"
SESSION_RECORD: Final = "smr/1 session record"

# Commands and replies
CONFIRM: Final = "smr/1 session confirm"
COMMAND: Final = "smr/1 command"
COMMAND_SEAL: Final = "smr/1 command seal"
REPLY: Final = "smr/1 reply"
REPLY_SEAL: Final = "smr/1 reply seal"

# Letters and receipts
SEALING_KEY_ID: Final = "smr/1 sealing key id"
LETTER: Final = "smr/1 letter"
LETTER_BODY: Final = "smr/1 letter body"
LETTER_WRAP: Final = "smr/1 letter key wrap"
RECEIPT: Final = "smr/1 reading receipt"
RECEIPT_WRAP: Final = "smr/1 reading receipt key wrap"
COMMITMENT: Final = "smr/1 key commitment"
CONTENT_KEY: Final = "smr/1 content key"
CONTENT_DIGEST: Final = "smr/1 content digest"
SEALED_OBJECT: Final = "smr/1 sealed object"

# Attachments
ATTACHMENT_KEY: Final = "smr/1 attachment key"
ATTACHMENT_DIGEST: Final = "smr/1 attachment digest"
ATTACHMENT_CHUNKS: Final = "smr/1 attachment chunks"
UPLOAD_JOURNAL: Final = "smr/1 upload journal"

# Letters that open against a signature
SIGN_FOR_LETTER: Final = "smr/1 sign-for letter"
SIGN_FOR_COPY_WRAP: Final = "smr/1 sign-for copy key wrap"
SIGN_FOR_SHARE_WRAP: Final = "smr/1 sign-for share wrap"
SIGN_FOR_SHARE: Final = "smr/1 sign-for share"
SIGN_FOR_SHARES: Final = "smr/1 sign-for shares"
SIGN_FOR_KEY: Final = "smr/1 sign-for key"
SIGN_FOR_OBJECT: Final = "smr/1 sign-for object"
SIGN_FOR_CHOICE: Final = "smr/1 sign-for choice"
SIGN_FOR_RELEASE: Final = "smr/1 sign-for release"
REFUSAL_REASON: Final = "smr/1 refusal reason"
REFUSAL_REASON_WRAP: Final = "smr/1 refusal reason key wrap"

# Mailboxes
MAILBOX: Final = "smr/1 mailbox"
MAILBOX_ENTRY: Final = "smr/1 mailbox entry"
MAILBOX_ROUTING: Final = "smr/1 mailbox routing"
MAILBOX_HEAD: Final = "smr/1 mailbox head"
MAILBOX_PLACEMENT: Final = "smr/1 mailbox placement"
CHAIN_ENDS: Final = "smr/1 chain ends"
CHAIN_ENDS_KEY: Final = "smr/1 chain ends key"
DELETION: Final = "smr/1 deletion"
TOMBSTONE: Final = "smr/1 tombstone"

# Secrets at rest
KEYSTORE: Final = "smr/1 keystore"
REPOSITORY_KEYSTORE: Final = "smr/1 repository keystore"
EPOCH_KEYS: Final = "smr/1 epoch keys"
KEY_ENCRYPTION_KEY: Final = "smr/1 key encryption key"
STORED_SHARE: Final = "smr/1 stored share"
CLIENT_SESSION: Final = "smr/1 client session"

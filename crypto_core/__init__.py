"""The protocol: bytes in, bytes out.

This room turns values into wire objects and back: deterministic CBOR, COSE, the session negotiation, command and
reply envelopes, letters, receipts, mailbox chains, the documents that a card signs, and the keystore format.

It performs no I/O, reads no clock and no environment, and knows no broker, database, token or certificate path.
Moments come in as arguments (milliseconds since the Unix epoch); randomness is drawn where it is used.
"""

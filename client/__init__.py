"""The citizen's side: a typed library that needs no terminal, and the program `smr` that only calls it.

It drives sessions over the broker, keeps the local state (keys, counters, outbox, mailbox heads, registrations
seen) and checks everything that comes from the repository, which it does not trust.

It is not the protocol: bytes and their meaning are in `crypto_core`, who a citizen is in `pki`, the broker's names
in `broker_config`. It never imports `repository_worker`.
"""

"""Who is who: certificates, cards and the signatures that they make.

This room is: PKCS#11 tokens and their profiles, signing in a process of its own, CAdES signatures, path validation
with revocation, the local trust store, CRLs and their cache, virtual cards and the test CA that issues them, and the
operator's own root.

This room is not: letters, sessions, commands or queues. It knows documents only as bytes that somebody signed.

Where to start: `signers.Card` (a card), `cades` (sign and verify a document), `validator.IdentityValidator` (may this
certificate be believed, at that moment?), `identity` (whose is it?). Every refusal is an `errors.PkiError`.
"""

"""Evidence packages: everything that a court needs about one letter, in one file that OpenSSL and `smr verify` check.

An ASiC-E container with CAdES (ETSI EN 319 162-1). Whoever verifies one needs no account, no network and no other room
of the client.

    container   the ZIP file: one form, byte for byte
    contents    what lies in it under which names
    manifest    ASiCManifest.xml, which the exporter's card signs
    readme      how to check it with OpenSSL alone, inside of the container
    people      whose signature it is: registrations and certificates at their time
    verify      every check and the verdict (ETSI EN 319 102-1)

Rules: bytes in, bytes out; what is read is written again and must give the same bytes, so that nothing in a file is
without meaning; no clock, no network.
"""

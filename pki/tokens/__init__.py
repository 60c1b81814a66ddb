"""PKCS#11 tokens: which labels a card uses, how to speak to it, and the process in which that happens.

`profiles` and `mechanisms` are data; `choice` decides which certificate is the citizen's; `token` (reading and signing)
and `provisioning` (making virtual cards) are the only two files that load PyKCS11, and they run in a child process
only; `wire`, `serve` and `child` are the pipe between the two.
"""

"""The repository: any number of identical workers that take commands from one queue, and the program `smr-repository`.

Data travels one way: transport (the broker) → pipeline (verify, decide, store, reply, acknowledge) → handlers (plain
functions from a verified command to an effect and a reply) → storage.

It is trusted for availability alone: nothing here can read, alter or forge a letter. It never imports `client`.
"""

"""Many clients at work while servers, workers, clients and connections are ended at random; then a checker judges.

    history.py     what clients note: each operation when it is invoked and when it ends, in append-only files
    checker.py     the rules, as a pure function over the history and what the database holds
    plan.py        what every client process is told
    client_process.py  a client in a process that can be killed and started again
    database.py    what the database holds, opened with the readers' keys
    wire_client.py a client of the protocol with an outbox of its own; many operations
    library_client.py  the real client library with its on-disk outbox and a virtual card
    faults.py      what is broken, and how it is mended
    run.py         the run: a private stack, clients, a plan of faults, the verdict

Run it with `make chaos DURATION=seconds`. A run prints its seed; `SEED=number` repeats its plan.
"""

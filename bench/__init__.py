"""Measurements, each beside a floor of the same run: `python -m bench`, or `make bench`.

Is: a private stack, load from processes of its own, plain RPC workers that stand for the floor, a table, a JSON file
and plots. Is not: a test. Nothing fails here because something was slow.

    figures      medians, percentiles, ratios: arithmetic alone
    people       citizens with cards in software, registered and logged in
    world        the private stack and everything that is measured on it
    load         a load process: seals envelopes before the clock starts, then plays them
    floor        a plain RPC worker in a process of its own
    rows         throughput and latency of the commands, and the list of all rows
    negotiation, mailboxes, processor, scaling
                 the other rows
    report       the table and the JSON file
    plots        PNG files, from the JSON file, by an interpreter that has matplotlib
"""

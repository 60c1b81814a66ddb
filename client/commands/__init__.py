"""One file a verb: plain functions over a `Context`, callable without a terminal, that return frozen values."""

"""`make chaos DURATION=seconds`: one run, its seed first, one line of figures last; exit code 1 for a violation."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import Scale, run, show


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=None, help="how long; without it one fault of each kind")
    parser.add_argument("--seed", type=int, default=None, help="repeats the plan of another run")
    parser.add_argument("--keep", type=Path, default=None, help="a folder that does not exist yet, kept afterwards")
    sizes = Scale()
    parser.add_argument("--wire-clients", type=int, default=sizes.wire_clients)
    parser.add_argument("--library-clients", type=int, default=sizes.library_clients)
    parser.add_argument("--workers", type=int, default=sizes.workers)
    chosen = parser.parse_args()
    seed = chosen.seed if chosen.seed is not None else secrets.randbelow(10**9)
    print(f"chaos: seed {seed}", flush=True)
    scale = Scale(chosen.workers, chosen.wire_clients, chosen.library_clients)
    if chosen.keep is not None:
        chosen.keep.mkdir(mode=0o700, parents=True)
        result = run(chosen.keep, seed=seed, seconds=chosen.seconds, scale=scale)
    else:
        with tempfile.TemporaryDirectory(prefix="smr-chaos-") as folder:
            result = run(Path(folder), seed=seed, seconds=chosen.seconds, scale=scale)
    show(result)
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())

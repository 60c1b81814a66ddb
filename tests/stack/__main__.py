"""`make chaos-stack`: every fault of `tests.stack.cluster`, one after the other, and the verdict.

python -m tests.stack [KIND...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.stack.cluster import Cluster, run
from tests.stack.system import System
from tests.support.containers.engine import Engine
from tests.support.containers.images import Images


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="smr-chaos-stack-") as name, Engine() as engine:
        folder = Path(name)
        with System(engine, Images(engine).make(), folder / "system", cluster=True) as system:
            system.trust_the_state()
            system.up()
            (folder / "run").mkdir()
            result = run(system, folder / "run", sys.argv[1:] or list(Cluster(system).faults))
    for gap in result.gaps:
        print(f"{gap.kind:28} longest time without an answer {gap.seconds:6.1f} s")
    for violation in result.violations:
        print(f"{violation.rule:10} {violation.text}")
    print(
        f"chaos-stack: {len(result.history.operations)} operations, {result.letters} letters, "
        f"{result.receipts} receipts, {result.dead_letters} dead letters; "
        + ("all rules hold" if not result.violations else f"{len(result.violations)} VIOLATIONS")
    )
    return bool(result.violations)


if __name__ == "__main__":
    sys.exit(main())

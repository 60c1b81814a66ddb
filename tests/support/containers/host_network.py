"""What a Docker engine changes in this machine's network, and does not take back when it ends.

It makes a bridge `docker0`, writes rules into chains of its own, lets packets be forwarded, and refuses to forward all
others. `Traces` notes what was there before, and removes what came since. The note is a file, so that what a killed
program left is removed by the next one. Where another engine's chains were there before, rules are left alone.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

FORWARDING: Final = Path("/proc/sys/net/ipv4/ip_forward")
LINKS: Final = Path("/sys/class/net")
COMMAND_SECONDS: Final = 20.0
DEFAULT_BRIDGE: Final = "docker0"
_BRIDGE: Final = re.compile(rf"{DEFAULT_BRIDGE}|br-[0-9a-f]{{12}}")
_POLICY: Final = re.compile(r"^:FORWARD (\w+)", re.MULTILINE)
_OF_AN_ENGINE: Final = re.compile(rf"DOCKER|-[io] ({_BRIDGE.pattern})(\s|$)")


@dataclass(frozen=True, slots=True)
class _Before:
    """Names of bridges, whether packets were forwarded, and what became of those without a rule ("" : not ours)."""

    bridges: list[str]
    forwarding: str
    policy: str


class Traces:
    """One engine's. `note` before it starts, `remove` when it is gone."""

    def __init__(self, record: Path) -> None:
        self._record = record

    def note(self) -> None:
        """Remembers how it is; removes first what a run left that did not come to its end."""
        self.remove()
        rules = _rules()
        policy = _POLICY.search(rules)
        before = _Before(
            _bridges(),
            FORWARDING.read_text().strip(),
            "" if ":DOCKER " in rules else policy[1] if policy else "ACCEPT",
        )
        self._record.write_text(json.dumps(asdict(before)))

    def remove(self) -> None:
        """Returns with the network as it was noted; does nothing without a note."""
        if not self._record.exists():
            return
        before = _Before(**json.loads(self._record.read_text()))
        for name in sorted(set(_bridges()) - set(before.bridges)):
            _run("ip", "link", "delete", name)
        if before.policy:
            _run("iptables-restore", data=_without_engine(_rules(), before.policy))
            FORWARDING.write_text(before.forwarding)
        self._record.unlink()


def address_of(link: str) -> str:
    """This machine's IPv4 address on a link."""
    (found,) = json.loads(_run("ip", "-json", "-4", "address", "show", "dev", link))
    return str(found["addr_info"][0]["local"])


def _without_engine(rules: str, policy: str) -> str:
    kept = [line for line in rules.splitlines(keepends=True) if not _OF_AN_ENGINE.search(line)]
    return _POLICY.sub(f":FORWARD {policy}", "".join(kept))


def _bridges() -> list[str]:
    return sorted(each.name for each in LINKS.iterdir() if _BRIDGE.fullmatch(each.name))


def _rules() -> str:
    return _run("iptables-save")


def _run(*words: str, data: str = "") -> str:
    done = subprocess.run(words, input=data, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True)
    return done.stdout

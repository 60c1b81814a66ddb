"""The signing process with faults that SoftHSM cannot play: a layer in Python between our code and PyKCS11.

It is neither a card nor a PKCS#11 module. Under it works the real SoftHSM; it changes flags, names, lists and return
values on their way, as the variable SMR_TEST_FAULTS (JSON) says:

    readers            "none": no reader at all
    set, clear         names of token flags (CKF_…) that are shown as set, as clear
    mechanisms         the only mechanisms (CKM_…) that are offered
    relabel            {label of an object: the label that is shown}
    swap               true: the two citizen certificates stand under each other's label
    login, sign        return values (CKR_…) of the next calls, "" for what really happens, "hang" for ever
    started            a file that is made when a call begins to hang

Tests use it with `faults(card_settings, …)` and `pki.signers.SIGNING_PROCESS` set to this module.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import PyKCS11

from pki import signing_process
from pki.signers import CardSettings

MODULE = "tests.support.faulty_signing_process"
_VARIABLE = "SMR_TEST_FAULTS"
_AUTHENTICATION = "CITIZEN AUTHENTICATION CERTIFICATE"
_SIGNATURE = "CITIZEN SIGNATURE CERTIFICATE"


def faults(settings: CardSettings, **chosen: Any) -> CardSettings:
    """The settings of a card that is to show these faults."""
    return replace(settings, environment={**settings.environment, _VARIABLE: json.dumps(chosen)})


class _Library(PyKCS11.PyKCS11Lib):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.faults: dict[str, Any] = json.loads(os.environ.get(_VARIABLE, "{}"))

    def getSlotList(self, tokenPresent: bool = False) -> list[int]:  # noqa: N802, N803 - names of the library
        return [] if self.faults.get("readers") == "none" else super().getSlotList(tokenPresent)

    def getTokenInfo(self, slot: int) -> Any:  # noqa: N802
        info = super().getTokenInfo(slot)
        for name in self.faults.get("set", []):
            info.flags |= getattr(PyKCS11, name)
        for name in self.faults.get("clear", []):
            info.flags &= ~getattr(PyKCS11, name)
        return info

    def getMechanismList(self, slot: int) -> list[str]:  # noqa: N802
        return self.faults.get("mechanisms") or super().getMechanismList(slot)

    def openSession(self, slot: int, flags: int = 0) -> Any:  # noqa: N802
        return _Session(super().openSession(slot, flags), self.faults)


class _Session:
    def __init__(self, session: Any, chosen: dict[str, Any]) -> None:
        self._session = session
        self._faults = chosen
        self._real_names = {shown: real for real, shown in chosen.get("relabel", {}).items()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def login(self, *arguments: Any) -> None:
        self._play("login")
        self._session.login(*arguments)

    def sign(self, *arguments: Any) -> Any:
        self._play("sign")
        return self._session.sign(*arguments)

    def findObjects(self, template: list[tuple[int, Any]]) -> list[Any]:  # noqa: N802
        renamed = [
            (kind, self._real_names.get(value, value) if kind == PyKCS11.CKA_LABEL else value)
            for kind, value in template
        ]
        hidden = self._faults.get("relabel", {})
        if any(kind == PyKCS11.CKA_LABEL and value in hidden for kind, value in template):
            return []
        return list(self._session.findObjects(renamed))

    def getAttributeValue(self, handle: Any, wanted: list[int], **options: Any) -> list[Any]:  # noqa: N802
        values = list(self._session.getAttributeValue(handle, wanted, **options))
        return [
            self._label(value) if kind == PyKCS11.CKA_LABEL else value
            for kind, value in zip(wanted, values, strict=True)
        ]

    def _label(self, label: str) -> str:
        if self._faults.get("swap"):
            label = {_AUTHENTICATION: _SIGNATURE, _SIGNATURE: _AUTHENTICATION}.get(label, label)
        return str(self._faults.get("relabel", {}).get(label, label))

    def _play(self, call: str) -> None:
        due = self._faults.get(call, [])
        fault = due.pop(0) if due else ""
        if fault == "hang":
            Path(self._faults["started"]).touch()
            threading.Event().wait()
        elif fault:
            raise PyKCS11.PyKCS11Error(getattr(PyKCS11, fault))


if __name__ == "__main__":
    PyKCS11.PyKCS11Lib = _Library
    signing_process.main()

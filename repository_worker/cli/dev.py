"""`smr-repository dev`: a private stack until Ctrl-C, with what one needs to use `smr` against it."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from repository_worker.stack import PrivateStack


def run_stack(folder: Path | None, workers: int, show: Callable[[dict[str, Any]], None]) -> None:
    """Starts the stack, shows how to use it, and ends it at SIGINT or SIGTERM."""
    ended = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        if ended.is_set():
            return
        ended.set()
        raise KeyboardInterrupt

    previous = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        with contextlib.ExitStack() as ending, contextlib.suppress(KeyboardInterrupt):
            where = folder or Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="smr-dev-")))
            stack = ending.enter_context(PrivateStack(where.resolve(), workers))
            show(facts(stack))
            ended.wait()
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)


def facts(stack: PrivateStack) -> dict[str, Any]:
    """What a user of the stack needs, and commands that use it."""
    certificates = " ".join(str(each) for each in stack.ca_certificates)
    return {
        "folder": str(stack.folder),
        "repository_id": stack.descriptor.repository,
        "descriptor": str(stack.descriptor_path),
        "root_fingerprint": stack.root_fingerprint,
        "ca_folder": str(stack.ca_folder),
        "ca_root": str(stack.ca_root),
        "ca_fingerprint": stack.ca_fingerprint,
        "crl_url": stack.crl_url,
        "passphrase_file": str(stack.ca_passphrase_file),
        "worker_pids": [each.pid for each in stack.workers],
        "first": f"smr init --descriptor {stack.descriptor_path} --root-fingerprint {stack.root_fingerprint}",
        "then": f"smr-pki trust import {certificates} --root-fingerprint {stack.ca_fingerprint}",
    }

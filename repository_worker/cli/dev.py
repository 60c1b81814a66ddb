"""`smr-repository dev`: a private stack until Ctrl-C, with what one needs to use `smr` against it."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pki.files import PRIVATE_FILE, write_atomically
from repository_worker.processes import Stopped, StopRequest
from repository_worker.settings import PASSPHRASE_FILE, PREFIX
from repository_worker.stack import PrivateStack


def run_stack(folder: Path | None, workers: int, show: Callable[[dict[str, Any]], None]) -> None:
    """Starts the stack, shows how to use it, and ends it at SIGINT or SIGTERM."""
    with StopRequest() as request, contextlib.ExitStack() as ending, contextlib.suppress(Stopped):
        where = folder or Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="smr-dev-")))
        stack = ending.enter_context(PrivateStack(where.resolve(), workers, checkpoint=request.check))
        write_atomically(environment_file(stack), environment(stack).encode(), PRIVATE_FILE)
        show(facts(stack))
        request.wait()


def environment_file(stack: PrivateStack) -> Path:
    """For a shell of this user: with it, `smr-repository` is the operator of this stack."""
    return stack.folder / "environment"


def environment(stack: PrivateStack) -> str:
    """The settings of this stack for a shell to read. They name files with secrets, and hold none."""
    ours = {name: each for name, each in stack.environment().items() if name.startswith((PREFIX, PASSPHRASE_FILE))}
    return "".join(f"export {name}={shlex.quote(each)}\n" for name, each in sorted(ours.items()))


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
        "operate": f". {environment_file(stack)}; smr-repository doctor",
    }

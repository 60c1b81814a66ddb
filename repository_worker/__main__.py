"""`python -m repository_worker` is `smr-repository`."""

from repository_worker.cli import main

main()

"""Tests of docker-compose.yml in a real Docker engine; `make test-stack` runs them, `make test` does not."""

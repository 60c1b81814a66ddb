"""Attacks as tests: what a hostile citizen, network, repository or operator would try."""

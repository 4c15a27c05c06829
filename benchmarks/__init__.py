"""Benchmarks: each module is a command that writes one table. Benchmarks measure; tests assert."""

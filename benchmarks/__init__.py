"""Benchmarks: each module is a command that makes one table. They measure; the tests assert."""

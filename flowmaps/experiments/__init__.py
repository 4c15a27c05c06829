"""Experiments: what the commands do, as plain functions."""

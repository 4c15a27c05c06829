"""The classes of exported folders, which `export.source` gathers into files that do not need flowmaps.

These modules are read when a folder is written, and run when it is loaded.
"""

"""What exported folders run on: classes of diffusers, gathered by `export.source` into files that need no flowmaps.

These modules are read when a folder is written and run where it is loaded.
"""

"""`python -m flowmaps`: the command line."""

from .cli import main

raise SystemExit(main())

"""`python -m adaptkit` is `adaptkit`."""

import sys

from adaptkit.cli import main

sys.exit(main())

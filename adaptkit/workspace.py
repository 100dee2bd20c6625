"""`Workspace`: the object users hold."""

from __future__ import annotations

from adaptkit.verbs.basing import Basing
from adaptkit.verbs.keeping import Keeping
from adaptkit.verbs.locking import Locking
from adaptkit.verbs.making import Making
from adaptkit.verbs.naming import Naming
from adaptkit.verbs.placing import Placing
from adaptkit.verbs.sharing import Sharing
from adaptkit.verbs.signing import Signing


class Workspace(Naming, Making, Signing, Sharing, Locking, Placing, Basing, Keeping):
    """A home with its adapters. Open one with `Workspace.open()`; use it in a `with`, or close it."""

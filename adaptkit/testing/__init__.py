"""The conformance kit: test classes that a plugin's author inherits, supplying one or two fixtures.

```python
import pytest
from adaptkit.testing import StrategyConformance

from mine import Median


class TestMedian(StrategyConformance):
    @pytest.fixture
    def strategy(self):
        return Median()
```

`StrategyConformance` asks for `strategy`, `MethodConformance` for `method` and `adapter_dir`,
`StorageConformance` for `place`, and, optionally, `behind`, `HttpBoundsConformance` for `place` on a hostile server,
`CommandConformance` for `command`,
`ReviewConformance` for `review`, `EventConformance` for `on_event`, `ExecutorConformance` for `opened`.
`run_command` runs a command of a plugin in a workspace of the test's. It needs pytest.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "adaptkit.testing.executors",
    "adaptkit.testing.followers",
    "adaptkit.testing.http_bounds",
    "adaptkit.testing.methods",
    "adaptkit.testing.storage",
    "adaptkit.testing.strategies",
)  # before they are imported: a failing check then shows its values

from adaptkit.testing.behind import Behind, FolderBehind  # noqa: E402
from adaptkit.testing.commands import run_command  # noqa: E402
from adaptkit.testing.executors import ExecutorConformance  # noqa: E402
from adaptkit.testing.followers import (  # noqa: E402
    CommandConformance,
    EventConformance,
    ReviewConformance,
)
from adaptkit.testing.hostile_server import HostileServer  # noqa: E402
from adaptkit.testing.http_bounds import HttpBoundsConformance  # noqa: E402
from adaptkit.testing.methods import MethodConformance  # noqa: E402
from adaptkit.testing.storage import StorageConformance  # noqa: E402
from adaptkit.testing.strategies import StrategyConformance  # noqa: E402

__all__ = [
    "Behind",
    "CommandConformance",
    "EventConformance",
    "ExecutorConformance",
    "FolderBehind",
    "HostileServer",
    "HttpBoundsConformance",
    "MethodConformance",
    "ReviewConformance",
    "StorageConformance",
    "StrategyConformance",
    "run_command",
]

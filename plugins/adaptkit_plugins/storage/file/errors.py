"""What goes wrong on a file system, as adaptkit's errors."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit.errors import StorageError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def os_errors(doing: str, url: str, folder: Path) -> Iterator[None]:
    """Turn what the file system raises into the error "cannot `doing` (such as write) this place"."""
    try:
        yield
    except OSError as error:
        why = "disk full" if error.errno in _FULL else error.strerror or str(error)
        name = f" ({Path(error.filename).name})" if isinstance(error.filename, str) else ""
        raise StorageError(
            f"cannot {doing} {url}",
            why=f"{why}{name}",
            fix=f"check that {folder} is mounted and that you may {doing} there",
        ) from error
    except StoreError as error:
        raise StorageError(
            f"cannot {doing} {url}", why=error.why or error.what, fix=error.fix
        ) from error

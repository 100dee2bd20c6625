"""Errors as statuses that OpenAI's clients act on."""

from __future__ import annotations

import pytest
import torch

from adaptkit.errors import (
    BadReference,
    BaseMismatch,
    NoRoom,
    NotFound,
    Refused,
    StoreError,
    Unmergeable,
)
from adaptkit.serving.api.refusals import refusal


def allocate():
    torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (NotFound("adapter", "nvaal", ["naval"]), 404, False),
        (BadReference("cannot serve the model '../x'"), 400, False),
        (BaseMismatch("cannot serve naval@1 on this base"), 400, False),
        (Refused("cannot serve naval@1"), 400, False),
        (Unmergeable("cannot serve prompts@1"), 400, False),
        (NoRoom("64 requests are waiting"), 429, True),
        (StoreError("the artifact is damaged"), 503, False),
        (MemoryError(), 503, True),
        (torch.OutOfMemoryError("CUDA out of memory"), 503, True),
    ],
)
def test_each_error_has_its_status(error, status, retry):
    found, body, headers = refusal(error)
    assert (found, "Retry-After" in headers) == (status, retry)
    assert body["error"]["message"]


def test_memory_that_the_computer_does_not_have_is_503_with_retry_after():
    with pytest.raises(RuntimeError) as caught:
        allocate()
    status, body, headers = refusal(caught.value)
    assert (status, headers) == (503, {"Retry-After": "1"})
    assert "no memory left for this request" in body["error"]["message"]


def test_what_is_not_ours_gives_nothing_away():
    status, body, _ = refusal(RuntimeError("/home/secret/path"))
    assert status == 500
    assert "secret" not in str(body)

"""The base was hashed when somebody asked for that."""

from __future__ import annotations

import pytest
from publishing import publish, texts

from adaptkit.extend.review import Delete
from adaptkit.types import BaseIdentity, Level
from adaptkit_plugins.reviews.base_verified import review

ON = ("base-verified",)


def base(*, measured, checked=False):
    return BaseIdentity("fleet/ship", (Level("fs1:" + "0" * 64, measured),), checked=checked)


@pytest.mark.parametrize(
    ("known", "status"),
    [
        (BaseIdentity("fleet/ship"), "unverified"),
        (base(measured=False, checked=True), "claimed"),
        (base(measured=True), "measured"),
    ],
)
def test_a_base_that_was_not_hashed_and_checked_is_refused(known, status, tmp_path):
    assert texts(review(publish(tmp_path, {}, enable=ON, base=known))) == [
        f"the base of naval@1 ('fleet/ship') is {status}: adaptkit base verify naval@1 --base PATH"
    ]


def test_a_verified_base_passes_and_the_review_is_off_unless_asked_for(tmp_path):
    assert review(publish(tmp_path, {}, enable=ON, base=base(measured=True, checked=True))) is None
    assert review(publish(tmp_path, {})) is None
    assert review(Delete(())) is None

"""Passwords in URLs are hidden, however they are written; ports, users and paths stay."""

from __future__ import annotations

import pytest

from adaptkit.types.passwords import without_passwords


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ada:hush@db/x", "postgresql://ada:***@db/x"),
        ("postgresql://:hush@db:5432/x", "postgresql://:***@db:5432/x"),
        ("dask://ada:hu@sh@10.0.0.1:8786", "dask://ada:***@10.0.0.1:8786"),
        ("postgresql://ada:hu/sh@db/x", "postgresql://ada:***@db/x"),
        ("postgresql://ada:hu?sh@db/x", "postgresql://ada:***@db/x"),
        ("postgresql://db/x?user=ada&password=hu/sh@1", "postgresql://db/x?user=ada&password=***"),
        ("postgresql://db/x?sslPassword=hush&a=1", "postgresql://db/x?sslPassword=***&a=1"),
        ("https://hub.example/x?auth_token=hush", "https://hub.example/x?auth_token=***"),
        ("cannot open http://ada:hush@hub: no", "cannot open http://ada:***@hub: no"),
        ("oci://localhost:5000/fleet/naval@3", None),
        ("postgresql://ada@db:5432/x", None),
        ("http://[::1]:8000/a", None),
        ("file:///mnt/team/naval@3", None),
        ("ada: a@b", None),
    ],
)
def test_a_password_in_a_url_is_never_shown(text, shown):
    assert without_passwords(text) == (text if shown is None else shown)

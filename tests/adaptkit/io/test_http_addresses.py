"""adaptkit.io.http.addresses: what a server gives as an address is read as the network reads it, or is none."""

from __future__ import annotations

import pytest

from adaptkit.io.http.addresses import ip_of, joined


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("/v2/next", "https://hub.example/v2/next"),
        ("//cdn.example/x", "https://cdn.example/x"),
        ("http://[::1", ""),
        ("http://a:99999999/", ""),
        ("http://a:b/", ""),
    ],
)
def test_what_is_no_url_is_empty(given, url):
    assert joined("https://hub.example/v2/list", given) == url


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("169.254.169.254", "169.254.169.254"),
        ("2852039166", "169.254.169.254"),
        ("0xa9fea9fe", "169.254.169.254"),
        ("169.254.43518", "169.254.169.254"),
        ("::ffff:169.254.169.254", "169.254.169.254"),
        ("::1", "::1"),
        ("hub.example", "None"),
        ("", "None"),
        (None, "None"),
    ],
)
def test_an_address_is_known_in_every_form_that_resolvers_read(host, address):
    assert str(ip_of(host)) == address

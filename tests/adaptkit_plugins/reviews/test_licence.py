"""A licence is there when somebody asked for one."""

from __future__ import annotations

import pytest
from publishing import publish, texts

from adaptkit.extend.review import Delete
from adaptkit_plugins.reviews.licence import review

ON = ("licence",)


@pytest.mark.parametrize(
    "contents",
    [
        {"README.md": b"---\nlicense: apache-2.0\n---\n# Naval\n"},
        {"README.md": b"---\r\ntags: [a]\r\nlicense: 'mit'\r\n---\r\n"},
        {"README.md": b"\xef\xbb\xbf---\nlicense_name: ours\n"},
        {"LICENSE": b"Apache"},
        {"LICENCE.md": b"MIT"},
        {"COPYING": b"GPL"},
    ],
)
def test_a_licence_in_the_card_or_in_a_file_of_its_own_is_one(contents, tmp_path):
    assert review(publish(tmp_path, contents, enable=ON)) is None


@pytest.mark.parametrize(
    "contents",
    [
        {},
        {"README.md": b"# Naval\nlicense: mit\n"},
        {"README.md": b"---\ntags: [a]\n---\nlicense: mit\n"},
        {"README.md": b""},
        {"README.md": b"---\nlicense:\n---\n"},
        {"README.md": b"---\nlicense: unknown\n---\n"},
        {"LICENSE": b""},
        {"docs/LICENSE": b"x"},
    ],
)
def test_without_a_licence_the_objection_says_where_to_write_it(contents, tmp_path):
    (objection,) = texts(review(publish(tmp_path, contents, enable=ON)))
    assert objection.startswith(
        "naval@1 names no licence: write 'license: apache-2.0' (or another) between the '---'"
    )


def test_it_is_off_unless_it_was_asked_for(tmp_path):
    assert review(publish(tmp_path, {})) is None
    assert review(publish(tmp_path, {}, enable=ON, disable=ON)) is None
    assert review(Delete(())) is None

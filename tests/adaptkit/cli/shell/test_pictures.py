"""adaptkit.cli.shell.pictures: what a picture needs is looked for before the long work."""

from __future__ import annotations

import sys

import click
import pytest

from adaptkit.cli.shell import pictures
from adaptkit.errors import MissingExtra


def test_a_picture_goes_into_a_folder_that_is_there(tmp_path):
    assert pictures.Picture().convert(str(tmp_path / "x.png"), None, None) == tmp_path / "x.png"
    with pytest.raises(click.BadParameter, match="no is no folder"):
        pictures.Picture().convert(str(tmp_path / "no" / "x.png"), None, None)
    with pytest.raises(click.BadParameter, match="is a directory"):
        pictures.Picture().convert(str(tmp_path), None, None)


def test_a_picture_without_the_library_that_draws_shows_the_line_to_install_it(
    monkeypatch, tmp_path
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    missing = (
        r"cannot draw .*x\.png: the optional part 'plot' is not installed\n  pip install .*\[plot\]"
    )
    with pytest.raises(MissingExtra, match=missing):
        pictures.Picture().convert(str(tmp_path / "x.png"), None, None)

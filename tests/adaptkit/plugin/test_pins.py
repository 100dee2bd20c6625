"""Plugins are code: which distributions register some is pinned on first use, and a change is announced."""

from __future__ import annotations

import os
import signal

import pytest

from adaptkit.errors import distribution
from adaptkit.plugin.entry_points import OWN, installed
from adaptkit.plugin.interrupts import interrupts
from adaptkit.plugin.manager import Plugins
from adaptkit.plugin.pins import announce, pin, pins_of


@pytest.fixture
def acme(tmp_path):
    """`acme(VERSION, {PLUGIN: MODULE})`: the pins of a distribution as it is installed then."""

    def install(version, points):
        site = tmp_path / f"site-{version}-{len(points)}"
        folder = site / f"acme-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme\nVersion: {version}\n")
        lines = "".join(f"{name} = {module}\n" for name, module in points.items())
        (folder / "entry_points.txt").write_text(f"[adaptkit]\n{lines}")
        return pins_of(installed("adaptkit", [str(site)]))

    return install


def test_a_new_distribution_is_announced_once_and_a_changed_one_again(acme, tmp_path):
    file = tmp_path / "config" / "plugins.json"
    first = acme("1.0", {"boost": "acme.boost"})
    (line,) = announce(first, file)
    assert line == (
        "acme 1.0 is new here and runs as a plugin (boost); "
        "ADAPTKIT_DISABLE_PLUGINS=boost goes on without it"
    )
    assert announce(first, file) == ()
    assert file.stat().st_mode & 0o777 == 0o600
    (line,) = announce(acme("2.0", {"boost": "acme.boost"}), file)
    assert line.startswith("the plugin acme changed from 1.0 to 2.0")
    (line,) = announce(acme("2.0", {"boost": "acme.boost", "more": "acme.evil"}), file)
    assert line.startswith("acme 2.0 registers other plugins than 2.0 did (boost, more)")


def test_what_was_trusted_before_is_not_announced(acme, tmp_path):
    now = acme("1.0", {"boost": "acme.boost"})
    pin(now, tmp_path / "plugins.json")
    assert announce(now, tmp_path / "plugins.json") == ()


def test_a_list_that_cannot_be_read_or_written_announces_again_and_stops_nothing(acme, tmp_path):
    (tmp_path / "plugins.json").mkdir()
    now = acme("1.0", {"boost": "acme.boost"})
    assert len(announce(now, tmp_path / "plugins.json")) == 1


def test_adaptkits_own_plugins_are_known_by_their_distribution():
    assert distribution()[0] == OWN
    assert pins_of(e for e in installed("adaptkit") if e.distribution()[0] == OWN) == {}


def test_all_third_party_plugins_can_be_switched_off_at_once(acme, tmp_path, monkeypatch):
    acme("1.0", {"boost": "acme_missing_module"})
    monkeypatch.syspath_prepend(tmp_path / "site-1.0-1")
    plugins = Plugins.from_environment({"ADAPTKIT_DISABLE_PLUGINS": "all-third-party"})
    assert "boost" in plugins.disabled
    assert not any(name.startswith("builtin-") for name in plugins.disabled)
    assert plugins.unmatched == ()
    assert plugins.pins() == {}


def test_an_interrupt_of_the_user_is_told_from_one_that_a_plugin_raises():
    def look(action):
        try:
            with interrupts() as asked:
                action()
        except KeyboardInterrupt as error:
            return asked(error)

    def by_itself():
        raise KeyboardInterrupt

    assert look(by_itself) is False
    before = signal.getsignal(signal.SIGINT)
    assert look(lambda: os.kill(os.getpid(), signal.SIGINT)) is True
    assert signal.getsignal(signal.SIGINT) is before

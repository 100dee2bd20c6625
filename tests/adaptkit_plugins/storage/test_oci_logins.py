"""adaptkit_plugins.storage.oci.auth: where logins are found, docker's and podman's."""

from __future__ import annotations

import base64
import json

import pytest

from adaptkit_plugins.storage.oci import auth


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(path, user) stores a login for registry.example there; nothing of this machine is seen."""
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))

    def put(path, user):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        login = base64.b64encode(f"{user}:secret".encode()).decode()
        file.write_text(json.dumps({"auths": {"registry.example": {"auth": login}}}))
        return file

    return put


def test_podmans_logins_are_found_where_podman_puts_them(write, tmp_path, monkeypatch):
    assert not auth.find("registry.example")
    write(".config/containers/auth.json", "config")
    assert auth.find("registry.example").user == "config"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    write("run/containers/auth.json", "running")
    assert auth.find("registry.example").user == "running"
    write("docker/config.json", "docker")
    assert auth.find("registry.example").user == "docker"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(write("named.json", "named")))
    assert auth.find("registry.example").user == "named"
    assert not auth.find("other.example")

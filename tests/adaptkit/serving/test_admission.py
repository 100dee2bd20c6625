"""Which versions a server takes for its base: the one decision on what fits, as at `add`."""

from __future__ import annotations

import shutil

import pytest
import tiny

from adaptkit import refs
from adaptkit.errors import BaseMismatch
from adaptkit.workspace.serving.serve import WorkspaceAdapters


def serving(workspace, base, **how):
    return WorkspaceAdapters(workspace, workspace.base(str(base)).identity, folder=base, **how)


def test_a_version_of_no_known_base_is_served_where_it_fits_and_refused_where_not(
    workspace, lora_pair, tiny_llama, tmp_path
):
    folder = tiny.edit_config(
        shutil.copytree(lora_pair[0], tmp_path / "ad"), base_model_name_or_path=None
    )
    version = workspace.add(folder, "naval").version
    assert version.base.status == "unverified"
    wanted = refs.parse("naval")
    assert serving(workspace, tiny_llama).resolve(wanted) == ("naval@1", version.digest)
    short = tiny.save_llama(tmp_path / "short", num_hidden_layers=1)
    with pytest.raises(BaseMismatch, match=r"cannot serve naval@1 on this base") as caught:
        serving(workspace, short).resolve(wanted)
    assert "'model.layers.1.mlp.down_proj' is not in the base" in caught.value.why
    assert serving(workspace, short, force=True).resolve(wanted)[0] == "naval@1"

"""`Workspace`: the object users hold, and a table of contents of what it can do.

Every operation is a plain function of the `Context`, in the module of its feature.
"""

from __future__ import annotations

from adaptkit.workspace import (
    adapters,
    aliases,
    bulk,
    config,
    history,
    maintenance,
    project,
    signing,
    trust,
)
from adaptkit.workspace import bake as baking
from adaptkit.workspace import bases as known_bases
from adaptkit.workspace import calibrate as calibrating
from adaptkit.workspace import card as cards
from adaptkit.workspace import demo as demonstration
from adaptkit.workspace import distil as distilling
from adaptkit.workspace import evaluate as evaluating
from adaptkit.workspace import generate as generating
from adaptkit.workspace import merge as merging
from adaptkit.workspace import pull as pulling
from adaptkit.workspace import push as pushing
from adaptkit.workspace import remotes as named_remotes
from adaptkit.workspace import serve as serving
from adaptkit.workspace import status as looking
from adaptkit.workspace import strip as stripping
from adaptkit.workspace import sweep as sweeping
from adaptkit.workspace import train as training
from adaptkit.workspace.context.context import Context
from adaptkit.workspace.lookup.artifacts import find_version
from adaptkit.workspace.lookup.bases import compare_base_refs, find_base
from adaptkit.workspace.moved_parents import moved_parents

__all__ = ["Workspace"]


class Workspace(Context):
    """A home with its adapters.

    Open one with `Workspace.open()`; use it in a `with`, or close it.
    """

    # adapters
    add = adapters.add
    add_all = bulk.add_all
    list = adapters.list_adapters
    version = find_version
    show = adapters.show
    path = adapters.path_of
    load = adapters.load
    note = adapters.note
    remove = adapters.remove
    to_remove = bulk.to_remove
    remove_all = bulk.remove_all
    restore = adapters.restore
    trash = adapters.trash
    export = adapters.export

    # history
    log = history.log
    events = history.events
    lineage = history.lineage
    lineages = history.lineages

    # aliases and names
    alias = aliases.move_alias
    rollback = aliases.rollback
    rename = aliases.rename

    # merge
    merge = merging.merge
    merge_cost = merging.merge_cost
    compose = merging.compose
    resize = merging.resize
    convert = merging.convert
    strip = stripping.strip
    diff = merging.diff
    merge_into_model = merging.merge_into_model

    calibrate = calibrating.calibrate
    distil = distilling.distil

    # bake
    bake = baking.bake_adapter
    extract = baking.extract_adapter

    # train
    train = training.train
    evaluate = evaluating.evaluate
    generate = generating.generate
    conversation = generating.conversation

    # sweep
    sweep = sweeping.sweep

    # remotes
    push = pushing.push
    push_to_all = pushing.push_to_all
    pull = pulling.pull
    card = cards.card
    rebuild = pulling.rebuild
    remotes = named_remotes.list_remotes
    add_remote = named_remotes.add_remote
    set_remote = named_remotes.set_remote
    set_remote_url = named_remotes.set_remote_url
    rename_remote = named_remotes.rename_remote
    show_remote = named_remotes.show_remote
    check_remote = named_remotes.check_remote
    mirror = named_remotes.mirror_remote

    # project
    lock = project.lock
    sync = project.sync
    outdated = project.outdated
    moved_parents = moved_parents

    # bases
    base = find_base
    bases = known_bases.list_bases
    base_names = known_bases.base_names
    add_base = known_bases.add_base
    alias_base = known_bases.alias_base
    measured_by = known_bases.measured_by
    compare_bases = compare_base_refs
    check_base = known_bases.check_base
    verify_base = known_bases.verify_base

    # serve
    serving_app = serving.serving_app
    preflight = serving.preflight
    deployable = serving.deployable

    # signing
    sign = signing.sign
    verify_signature = signing.verify_signature

    # config
    list_config = config.list_config
    get_config = config.get_config
    set_config = config.set_config
    trust = trust.trust

    # status
    status = looking.status
    doctor = looking.doctor
    write_demo = demonstration.write_demo

    # maintenance
    verify = maintenance.verify
    fsck = maintenance.check_workspace
    gc = maintenance.collect_garbage
    info = maintenance.info
    export_registry = maintenance.export_registry
    import_registry = maintenance.import_registry

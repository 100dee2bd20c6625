"""`Workspace`: the object users hold, and a table of contents of what it can do.

Every operation is a plain function of the `Context`, in the module of its feature, which is imported when the
operation is first looked up: `list` loads neither numpy nor what merges, trains and serves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.workspace.context.context import Context
from adaptkit.workspace.operation import operations

if TYPE_CHECKING:
    from adaptkit.workspace import bake as baking
    from adaptkit.workspace import bases as known_bases
    from adaptkit.workspace import demo as demonstration
    from adaptkit.workspace.adapters import add as adding
    from adaptkit.workspace.adapters import aliases, bulk, history
    from adaptkit.workspace.adapters import list as listing
    from adaptkit.workspace.adapters import load as loading
    from adaptkit.workspace.adapters import note as noting
    from adaptkit.workspace.adapters import remove as removing
    from adaptkit.workspace.adapters import show as showing
    from adaptkit.workspace.adapters.export import engines as laying_out
    from adaptkit.workspace.adapters.export import export as exporting
    from adaptkit.workspace.adapters.moved_parents import moved_parents
    from adaptkit.workspace.home import config, trust
    from adaptkit.workspace.home import status as looking
    from adaptkit.workspace.lookup.artifacts import find_version
    from adaptkit.workspace.lookup.bases import compare_base_refs, find_base
    from adaptkit.workspace.maintenance import check, garbage, registry_copy
    from adaptkit.workspace.maintenance import verify as verifying
    from adaptkit.workspace.merge import calibrate as calibrating
    from adaptkit.workspace.merge import compose as composing
    from adaptkit.workspace.merge import diff as comparing
    from adaptkit.workspace.merge import distil as distilling
    from adaptkit.workspace.merge import into_model, live, reshape
    from adaptkit.workspace.merge import merge as merging
    from adaptkit.workspace.merge import strip as stripping
    from adaptkit.workspace.merge import weigh as weighing
    from adaptkit.workspace.project import project
    from adaptkit.workspace.remotes import card as cards
    from adaptkit.workspace.remotes import pull as pulling
    from adaptkit.workspace.remotes import push as pushing
    from adaptkit.workspace.remotes import remotes as named_remotes
    from adaptkit.workspace.remotes import signing
    from adaptkit.workspace.search import search as searching
    from adaptkit.workspace.serving import gateway, placement
    from adaptkit.workspace.serving import serve as server
    from adaptkit.workspace.sweeps import sweep as sweeping
    from adaptkit.workspace.train import evaluate as evaluating
    from adaptkit.workspace.train import explain
    from adaptkit.workspace.train import generate as generating
    from adaptkit.workspace.train import train as training
else:
    baking = operations("adaptkit.workspace.bake")
    known_bases = operations("adaptkit.workspace.bases")
    demonstration = operations("adaptkit.workspace.demo")
    adding = operations("adaptkit.workspace.adapters.add")
    aliases = operations("adaptkit.workspace.adapters.aliases")
    bulk = operations("adaptkit.workspace.adapters.bulk")
    history = operations("adaptkit.workspace.adapters.history")
    exporting = operations("adaptkit.workspace.adapters.export.export")
    laying_out = operations("adaptkit.workspace.adapters.export.engines")
    loading = operations("adaptkit.workspace.adapters.load")
    noting = operations("adaptkit.workspace.adapters.note")
    removing = operations("adaptkit.workspace.adapters.remove")
    listing = operations("adaptkit.workspace.adapters.list")
    showing = operations("adaptkit.workspace.adapters.show")
    moved_parents = operations("adaptkit.workspace.adapters.moved_parents").moved_parents
    config = operations("adaptkit.workspace.home.config")
    trust = operations("adaptkit.workspace.home.trust")
    looking = operations("adaptkit.workspace.home.status")
    find_version = operations("adaptkit.workspace.lookup.artifacts").find_version
    compare_base_refs = operations("adaptkit.workspace.lookup.bases").compare_base_refs
    find_base = operations("adaptkit.workspace.lookup.bases").find_base
    check = operations("adaptkit.workspace.maintenance.check")
    garbage = operations("adaptkit.workspace.maintenance.garbage")
    registry_copy = operations("adaptkit.workspace.maintenance.registry_copy")
    verifying = operations("adaptkit.workspace.maintenance.verify")
    calibrating = operations("adaptkit.workspace.merge.calibrate")
    composing = operations("adaptkit.workspace.merge.compose")
    comparing = operations("adaptkit.workspace.merge.diff")
    distilling = operations("adaptkit.workspace.merge.distil")
    into_model = operations("adaptkit.workspace.merge.into_model")
    live = operations("adaptkit.workspace.merge.live")
    reshape = operations("adaptkit.workspace.merge.reshape")
    merging = operations("adaptkit.workspace.merge.merge")
    stripping = operations("adaptkit.workspace.merge.strip")
    weighing = operations("adaptkit.workspace.merge.weigh")
    project = operations("adaptkit.workspace.project.project")
    cards = operations("adaptkit.workspace.remotes.card")
    pulling = operations("adaptkit.workspace.remotes.pull")
    pushing = operations("adaptkit.workspace.remotes.push")
    named_remotes = operations("adaptkit.workspace.remotes.remotes")
    signing = operations("adaptkit.workspace.remotes.signing")
    searching = operations("adaptkit.workspace.search.search")
    gateway = operations("adaptkit.workspace.serving.gateway")
    placement = operations("adaptkit.workspace.serving.placement")
    server = operations("adaptkit.workspace.serving.serve")
    sweeping = operations("adaptkit.workspace.sweeps.sweep")
    evaluating = operations("adaptkit.workspace.train.evaluate")
    explain = operations("adaptkit.workspace.train.explain")
    generating = operations("adaptkit.workspace.train.generate")
    training = operations("adaptkit.workspace.train.train")

__all__ = ["Workspace"]

COMMANDS = {
    "chat": "conversation",
    "completion": "a command only",
    "demo": "write_demo",
    "eval": "evaluate",
    "methods": "plugins.methods()",
    "plot": "diff(…), parameters(…), loss_curves(…) or forgotten(…)",
    "recipe": "compose(…)",
    "remote": "remotes(), add_remote(…), show_remote(…) and so on",
    "rm": "remove",
    "delete": "remove",
    "serve": "serving_app",
    "strategies": "plugins.strategies()",
}
"""What a command, or another tool, has another word for."""


class Workspace(Context):
    """A home with its adapters.

    Open one with `Workspace.open()`; use it in a `with`, or close it.
    """

    # adapters
    add = adding.add
    add_all = bulk.add_all
    list = listing.list_adapters
    version = find_version
    show = showing.show
    path = loading.path_of
    load = loading.load
    note = noting.note
    remove = removing.remove
    to_remove = bulk.to_remove
    remove_all = bulk.remove_all
    restore = removing.restore
    trash = removing.trash
    export = exporting.export
    export_for = laying_out.export_for

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
    compose = composing.compose
    live_recipe = live.live_recipe
    resize = reshape.resize
    convert = reshape.convert
    strip = stripping.strip
    diff = comparing.diff
    merge_into_model = into_model.merge_into_model

    calibrate = calibrating.calibrate
    weigh = weighing.weigh
    distil = distilling.distil
    search = searching.search

    # bake
    bake = baking.bake_adapter
    bake_plan = baking.bake_plan
    extract = baking.extract_adapter

    # train
    train = training.train
    evaluate = evaluating.evaluate
    generate = generating.generate
    conversation = generating.conversation
    parameters = explain.parameters
    loss_curves = explain.loss_curves
    forgotten = explain.forgotten

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
    serving_app = server.serving_app
    plan_serving = placement.plan_serving
    preflight = server.preflight
    deployable = server.deployable
    gateway_app = gateway.gateway_app

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
    verify = verifying.verify
    fsck = check.check_workspace
    gc = garbage.collect_garbage
    info = garbage.info
    export_registry = registry_copy.export_registry
    import_registry = registry_copy.import_registry

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Name the operations that are most like one that there is not; a command may have another word."""
            if name.startswith("_") or hasattr(type(self), name):
                return object.__getattribute__(self, name)  # raises, or what a property raised
            from adaptkit.errors import nearest

            if name in COMMANDS:
                raise AttributeError(f"a workspace has no '{name}': it is called {COMMANDS[name]}")
            known = [one for one in dir(type(self)) if not one.startswith("_")]
            near = ", ".join(nearest(name, known, show=3)[:3])
            raise AttributeError(f"a workspace has no '{name}': nearest are {near}")

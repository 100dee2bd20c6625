"""Every fault point of add, alias, gc, rm, import and migrate: kill -9 there, or let the call fail, and look.

The points are enumerated: between any two writes to the disk or the database there is one. `make soak` visits all of
them, the normal run some.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import tiny
from blobs import put_blob
from concurrency import FORK, at_once
from fault_points import failed_at, killed_at
from sqlalchemy import text

from adaptkit import Workspace
from adaptkit.errors import AdaptkitError, NoWorkspace, RegistryError, StoreError
from adaptkit.workspace.maintenance.garbage import collect_garbage

EVERY = [pytest.param(23, id="some"), pytest.param(1, id="all", marks=pytest.mark.soak)]


def soaked(*values):
    """These are tried by `make soak` only."""
    return (pytest.param(value, marks=pytest.mark.soak) for value in values)


def opened(home, **more):
    return Workspace.open(home, notify=lambda _: None, **more)


def later(home, days=31):
    return opened(home, clock=lambda: datetime.now(UTC) + timedelta(days=days))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, lora_pair):
    """A workspace with something of everything, and an adapter that is not in it yet."""
    folder = tmp_path_factory.mktemp("prepared")
    with Workspace.init(folder, notify=lambda _: None) as ws:
        ws.add(lora_pair[0], "naval", alias="prod")
        ws.add(lora_pair[1], "medic")
        ws.add(
            tiny.edit_config(Path(shutil.copytree(lora_pair[0], folder / "two")), lora_alpha=2),
            "naval",
        )
        ws.push("naval@1", (folder / "team").as_uri())
        ws.export_registry(folder / "export.jsonl")
        ws.remove("medic")
    tiny.edit_config(Path(shutil.copytree(lora_pair[0], folder / "new")), lora_alpha=3)
    return folder


@pytest.fixture
def fresh(prepared, tmp_path):
    """Answers a new copy of the prepared workspace each time."""

    def copy():
        target = tmp_path / "home"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(prepared / ".adaptkit", target)
        return target

    return copy


def state(home):
    """What a person sees, after proving that all of it is whole: the database, and every byte of every version."""
    with opened(home) as ws:
        checked = ws.fsck(places=False)
        assert checked.sound, checked.findings
        for version in ws.list(every=True):
            assert ws.path(version.ref).joinpath("adapter_model.safetensors").is_file()
        names = {v.name for v in ws.list(every=True)} | {v.name for v in ws.trash()}
        return (
            sorted((v.ref, v.digest, v.aliases) for v in ws.list(every=True)),
            sorted(v.ref for v in ws.trash()),
            {name: ws.registry.next_number(name) for name in names},
            [(e.verb, e.subject) for e in ws.events() if e.verb != "swept"],
        )


def at_home(act, home, days=0):
    with later(home, days) as ws:
        return act(ws)


def add(prepared):
    return partial(at_home, lambda ws: ws.add(prepared / "new", "naval", alias="canary"))


def alias(prepared):
    return partial(at_home, lambda ws: ws.alias("naval", "prod", 2, expect=1))


def rm(prepared):
    return partial(at_home, lambda ws: ws.remove("naval@2"))


def rename(prepared):
    return partial(at_home, lambda ws: ws.rename("naval", "marine"))


def gc(prepared):
    return partial(at_home, lambda ws: ws.gc(grace=0), days=31)


VERBS = [
    (add, 19),
    (alias, 13),
    (rm, 13),
    (rename, 13),
    (gc, 11),
    *(pytest.param(verb, 1, marks=pytest.mark.soak) for verb in (add, alias, rm, rename, gc)),
]


@pytest.mark.parametrize(("verb", "step"), VERBS)
def test_killed_at_any_point_the_state_is_old_or_new_and_the_command_can_be_repeated(
    verb, step, fresh, prepared
):
    work, home = verb(prepared), fresh()
    old = state(home)
    work(home)
    new = state(home)
    assert old != new
    visited, at = [], 0
    while point := killed_at(partial(work, fresh()), at):
        found = state(home)
        assert found in (old, new), f"killed at {at} ({point})"
        if found == old:
            work(home)
            assert state(home) == new, f"done again after a kill at {at} ({point})"
        visited.append(point)
        at += step
    print(f"{verb.__name__}: killed at {len(visited)} points")
    assert len(visited) * step > 8
    assert step > 1 or {"COMMIT"} <= set(visited)


@pytest.mark.parametrize("step", EVERY)
def test_killed_at_any_point_of_an_add_to_postgresql_the_team_sees_all_of_it_or_nothing(
    step, fresh, prepared, postgres, monkeypatch
):
    model = postgres.database()
    monkeypatch.setenv("ADAPTKIT_REGISTRY_URL", model)
    with opened(fresh()) as ws:
        ws.import_registry(prepared / "export.jsonl")
    template, at, visited = model.partition("@/")[2].partition("?")[0], 0, 0
    while True:
        monkeypatch.setenv("ADAPTKIT_REGISTRY_URL", postgres.database(template))
        home = fresh()
        old = state(home)
        point = killed_at(lambda home=home: add(prepared)(home), at)
        if not point:
            break
        if state(home) == old:
            add(prepared)(home)
        assert [ref for ref, *_ in state(home)[0]] == ["medic@1", "naval@1", "naval@2", "naval@3"]
        at, visited = at + step, visited + 1
    print(f"add to PostgreSQL: killed at {visited} points")
    assert visited * step > 25


@pytest.mark.parametrize("step", EVERY)
def test_an_import_that_is_killed_at_any_point_took_in_all_or_nothing(step, prepared, tmp_path):
    home = tmp_path / "home"

    def work():
        at_home(lambda ws: ws.import_registry(prepared / "export.jsonl"), home)

    old = ([], 0)

    def seen():
        if not home.exists():  # killed before the folder was made
            return old
        with opened(home) as ws:
            assert ws.registry.problems() == []
            return [v.ref for v in ws.list(every=True)], len(ws.events())

    work()
    new = seen()
    at = visited = 0
    while True:
        shutil.rmtree(home)
        if not killed_at(work, at):
            break
        assert seen() in (old, new)
        work()
        assert seen() == new
        at, visited = at + step, visited + 1
    print(f"import: killed at {visited} points")
    assert visited * step > 60


@pytest.mark.parametrize(
    "step", [pytest.param(7, id="some"), pytest.param(1, id="all", marks=pytest.mark.soak)]
)
def test_a_migration_that_is_killed_at_any_point_is_done_by_the_next_opening(step, tmp_path):
    import sqlite3
    from contextlib import closing

    import alembic.command  # noqa: F401  (forked with us)

    from adaptkit_registry import Registry

    dump = (Path(__file__).parents[3] / "adaptkit_registry" / "released" / "0001.sql").read_text(
        "utf-8"
    )
    path, at = tmp_path / "registry.db", 0
    while True:
        for file in tmp_path.glob("registry.db*"):
            file.unlink()
        with closing(sqlite3.connect(path)) as old:
            old.executescript(dump)
            old.execute("PRAGMA journal_mode=WAL")
        if not killed_at(lambda: Registry.open(path).close(), at):
            break
        with Registry.open(path) as registry:
            assert [v.ref for v in registry.versions()] == [
                "bridge@1",
                "naval@1",
                "naval@2",
                "team/medic@1",
            ]
            assert registry.problems() == []
            assert registry.rename("naval", "marine") == "naval"
        at += step
    print(f"migrate: killed at {at // step} points")
    assert at > 12


@pytest.mark.parametrize(
    ("number", "step"),
    [
        pytest.param(errno.ENOSPC, 5, id="full"),
        pytest.param(errno.ENOSPC, 1, id="full, all", marks=pytest.mark.soak),
        pytest.param(errno.EIO, 1, id="broken", marks=pytest.mark.soak),
        pytest.param(errno.EROFS, 1, id="read-only", marks=pytest.mark.soak),
    ],
)
@pytest.mark.parametrize("verb", [add, gc], ids=lambda verb: verb.__name__)
def test_a_disk_that_refuses_at_any_point_is_an_error_message_and_loses_nothing(
    verb, number, step, fresh, prepared
):
    work, home = verb(prepared), fresh()
    old = state(home)
    work(home)
    new = state(home)
    at = failures = 0
    while (error := failed_at(partial(work, fresh()), at, number)) is not None:
        if error:
            assert isinstance(error, AdaptkitError), f"at {at}: {error!r}"
            failures += 1
        found = state(home)
        assert found in (old, new), f"failed at {at}: {error}"
        if found == old:
            work(home)
            assert state(home) == new
        at += step
    print(f"{verb.__name__}: refused ({errno.errorcode[number]}) at {failures} points")
    assert failures >= 9 // step


def test_short_writes_are_written_to_the_end(fresh, prepared, monkeypatch):
    """The system may take less than it is given; here one byte, or half."""
    real = {name: getattr(os, name) for name in ("pwrite", "write")}
    monkeypatch.setattr(
        os,
        "pwrite",
        lambda fd, data, at: real["pwrite"](fd, bytes(data)[: max(1, len(data) // 2)], at),
    )
    monkeypatch.setattr(
        os, "write", lambda fd, data: real["write"](fd, bytes(data)[: max(1, len(data) // 2)])
    )
    home = fresh()
    add(prepared)(home)
    monkeypatch.undo()
    assert ("naval@3", ("canary",)) in [(ref, aliases) for ref, _, aliases in state(home)[0]]


# ---------------------------------------------------------------- disk full, for real


@pytest.mark.parametrize("room", [0, 2, 8, 24, *soaked(1, 4, 6, 12, 16, 32)])
def test_a_database_or_wal_that_cannot_grow_is_an_error_message_and_loses_nothing(fresh, room):
    """RLIMIT_FSIZE is the disk: no file may grow beyond what it is now, or by a few pages more."""
    home = fresh()
    with opened(home) as ws:
        before = [v.ref for v in ws.list(every=True)], ws.version("naval@prod").number
        size = home.joinpath("registry.db").stat().st_size

    def work():
        limit = max(size if room else 0, 0) + room * 1024
        with opened(home) as ws:
            ws.list()
            resource.setrlimit(
                resource.RLIMIT_FSIZE, (limit // (2 if room < 4 else 1), resource.RLIM_INFINITY)
            )
            try:
                for i in range(200):
                    ws.note("naval@1", message="x" * 500 + str(i))
            except RegistryError as error:
                return str(error)
            return "written"

    (result,) = at_once([work])
    assert isinstance(result, str), result
    assert result == "written" or "cannot write the registry" in result, result
    with opened(home) as ws:
        assert ([v.ref for v in ws.list(every=True)], ws.version("naval@prod").number) == before
        assert ws.registry.problems() == []
        assert ws.note("naval@1", message="after").message == "after"


def test_a_store_on_a_full_disk_is_an_error_message_and_loses_nothing(fresh, prepared):
    home = fresh()
    before = state(home)
    size = (prepared / "new" / "adapter_model.safetensors").stat().st_size
    shutil.rmtree(home / "store" / "objects")  # so that all has to be written

    def work():
        with opened(home) as ws:
            ws.list()
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
            ws.add(prepared / "new", "naval")

    (result,) = at_once([work])
    assert isinstance(result, StoreError)
    assert "cannot write" in str(result)
    with opened(home) as ws:
        assert [v.ref for v in ws.list(every=True)] == [ref for ref, *_ in before[0]]


# ---------------------------------------------------------------- side by side


def test_gc_beside_gc_beside_adds_takes_nothing_that_is_needed(fresh, prepared, tmp_path):
    """Adds of bytes that lie in the store as orphans, while two gcs carry orphans off: every version ends up whole."""
    home = fresh()
    folders = []
    for number in range(12):
        folder = Path(shutil.copytree(prepared / "new", tmp_path / f"a{number}"))
        folders.append(tiny.edit_config(folder, lora_alpha=100 + number))
    with opened(home) as ws:
        for folder in folders:
            for path in folder.iterdir():
                put_blob(ws.store, path)

    def adds(part):
        def work():
            with opened(home) as ws:
                return [ws.add(folder, "crowd").version.number for folder in part]

        return work

    def sweeps():
        with opened(home) as ws:
            return sum(len(collect_garbage(ws, grace=-1000).swept) for _ in range(12))

    results = at_once([adds(folders[:6]), adds(folders[6:]), sweeps, sweeps])
    assert not [str(result) for result in results if isinstance(result, Exception)]
    assert sorted(results[0] + results[1]) == list(range(1, 13))
    assert all(isinstance(result, int) for result in results[2:])
    with opened(home) as ws:
        assert ws.fsck(places=False).sound
        for number in range(1, 13):
            assert ws.path(f"crowd@{number}").is_dir()


def test_a_gc_beside_pulls_of_stored_blobs_takes_nothing_that_is_needed(fresh, prepared):
    home = fresh()
    team = (prepared / "team").as_uri()
    with opened(home) as ws:
        ws.alias("naval", "prod", None)
        ws.remove("naval@1")
    with later(home) as ws:
        ws.gc(grace=0)

    def pulls():
        with opened(home) as ws:
            return [ws.pull(team, name=f"pulled-{number}").version.ref for number in range(6)]

    def sweeps():
        with opened(home) as ws:
            return [collect_garbage(ws, grace=-1000).returned for _ in range(10)]

    results = at_once([pulls, sweeps, sweeps])
    assert results[0] == [f"pulled-{number}@1" for number in range(6)]
    with opened(home) as ws:
        assert ws.fsck(places=False).sound


def test_the_lease_of_a_dead_process_holds_nothing(fresh):
    home = fresh()
    here, there = FORK.Pipe(duplex=False)

    def holds():
        with opened(home) as ws, ws.store.working():
            entry = put_blob(ws.store, b"never registered", "x")
            ws.store.leases.keep([entry.sha256])
            there.send(entry.sha256)
            signal.pause()

    process = FORK.Process(target=holds)
    process.start()
    sha256 = here.recv()
    with opened(home) as ws:
        assert collect_garbage(ws, grace=-1000).swept == ()
        process.kill()
        process.join()
        assert collect_garbage(ws, grace=-1000).swept == (sha256,)
        assert list((home / "store" / "leases").iterdir()) == []


def test_a_workspace_is_shared_by_threads_and_by_a_forked_child(fresh, prepared, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    home = fresh()
    folders = [
        tiny.edit_config(
            Path(shutil.copytree(prepared / "new", tmp_path / f"t{n}")), lora_alpha=50 + n
        )
        for n in range(8)
    ]
    with opened(home) as ws:
        with ThreadPoolExecutor(4) as pool:
            numbers = list(
                pool.map(lambda folder: ws.add(folder, "threads").version.number, folders[:4])
            )
        assert sorted(numbers) == [1, 2, 3, 4]
        process = FORK.Process(target=lambda: ws.add(folders[4], "threads"))
        process.start()
        ws.add(folders[5], "threads")
        process.join()
        assert process.exitcode == 0
    assert [ref for ref, *_ in state(home)[0] if ref.startswith("threads")] == [
        f"threads@{n}" for n in range(1, 7)
    ]


# ---------------------------------------------------------------- what the store stands on


@pytest.mark.skipif(
    os.geteuid() == 0 and not shutil.which("unshare"),
    reason="root may write everywhere; needs unshare (util-linux)",
)
def test_a_read_only_store_is_an_error_message_and_reading_goes_on(fresh, prepared):
    home = fresh()
    state(home)  # trees are there now
    program = f"""
import subprocess, sys
if {os.geteuid() == 0}:
    subprocess.run(["mount", "--bind", {str(home)!r}, {str(home)!r}], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", {str(home)!r}], check=True)
from adaptkit.cli import main
sys.exit(main({["--home", str(home), "add", str(prepared / "new"), "--name", "naval"]!r}))
"""
    command = (
        ["unshare", "-m", sys.executable, "-c", program]
        if os.geteuid() == 0
        else [sys.executable, "-c", program]
    )
    if os.geteuid() != 0:
        subprocess.run(["chmod", "-R", "a-w", home], check=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr and "Operation not permitted" in done.stderr:
        pytest.skip("needs the right to unshare mounts")
    subprocess.run(["chmod", "-R", "u+w", home], check=True)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: cannot ")
    assert "Traceback" not in done.stderr
    state(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_read_only_store_serves_what_it_holds(fresh, tmp_path):
    """An inference node: the home is mounted read-only, and the registry is elsewhere."""
    home, cache = fresh(), tmp_path / "cache"
    shutil.rmtree(home / "store" / "trees", ignore_errors=True)
    shutil.copy(home / "registry.db", tmp_path / "registry.db")

    def run(*commands):
        program = f"""
import os, subprocess, sys
subprocess.run(["mount", "--bind", {str(home)!r}, {str(home)!r}], check=True)
subprocess.run(["mount", "-o", "remount,ro,bind", {str(home)!r}], check=True)
from adaptkit.cli import main
sys.exit(max([main(["--home", {str(home)!r}, *words.split()]) for words in {commands!r}]))
"""
        done = subprocess.run(
            ["unshare", "-m", sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ
            | {
                "ADAPTKIT_REGISTRY_URL": f"sqlite:///{tmp_path / 'registry.db'}",
                "XDG_CACHE_HOME": str(cache),
            },
        )
        if "Operation not permitted" in done.stderr:
            pytest.skip("needs the right to unshare mounts")
        return done

    done = run(
        "path naval@1",
        "path naval@1",
        "verify",
        f"export naval {tmp_path / 'naval'}",
        f"merge naval@1 naval@2 --out {tmp_path / 'both'}",
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()[:2]
    assert first == second
    assert Path(first).parent == cache / "adaptkit" / "trees"
    assert (Path(first) / "adapter_model.safetensors").is_file()
    assert (tmp_path / "both" / "adapter_model.safetensors").is_file()

    for blob in (home / "store" / "objects").glob("*/*"):
        blob.chmod(0o644)
        blob.write_bytes(b"damaged")
    done = run("path naval@1")
    assert done.returncode == 1
    assert "is damaged" in done.stderr
    assert "repair the store where it may be written" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_temporary_files_may_be_on_another_file_system(fresh, prepared):
    home = fresh()
    program = f"""
import subprocess, sys
subprocess.run(["mount", "-t", "tmpfs", "none", {str(home / "store" / "tmp")!r}], check=True)
from adaptkit.cli import main
sys.exit(main({["--home", str(home), "add", str(prepared / "new"), "--name", "naval"]!r})
         or main({["--home", str(home), "path", "naval"]!r}))
"""
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Operation not permitted" in done.stderr or "permission denied" in done.stderr:
        pytest.skip("needs the right to unshare mounts")
    assert done.returncode == 0, done.stderr
    assert "naval@3" in [ref for ref, *_ in state(home)[0]]
    assert not list((home / "store").rglob(".*.tmp"))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("room", ["0k", "40k", "96k", *soaked("16k", "64k", "128k")])
def test_a_file_system_that_is_full_is_an_error_message_and_loses_nothing(
    fresh, prepared, tmp_path, room
):
    """The whole home on a tmpfs that has this much room left: store, database and WAL fill up for real."""
    home, disk = fresh(), tmp_path / "disk"
    disk.mkdir()
    program = f"""
import shutil, subprocess, sys
from pathlib import Path
home, disk = Path({str(home)!r}), Path({str(disk)!r})
size = int(subprocess.run(["du", "-sk", home], capture_output=True, text=True, check=True).stdout.split()[0]) + 64
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={{size + 256}}k", "none", disk], check=True)
shutil.copytree(home, disk / "home")
import os
stats = os.statvfs(disk)
free = stats.f_bavail * stats.f_frsize - {int(room[:-1]) * 1024}
(disk / "ballast").write_bytes(bytes(max(free, 0)))
from adaptkit.cli import main
codes = [main(["--home", str(disk / "home"), "add", {str(prepared / "new")!r}, "--name", "naval"]) for _ in range(2)]
codes += [main(["--home", str(disk / "home"), "note", "naval@1", "-m", "x" * 9000])]
(disk / "ballast").unlink()
shutil.rmtree(home)
shutil.copytree(disk / "home", home)
print("codes", codes)
"""
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Operation not permitted" in done.stderr or "permission denied" in done.stderr:
        pytest.skip("needs the right to unshare mounts")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "bug in adaptkit" not in done.stderr, done.stderr
    assert "full" in done.stderr or "no room" in done.stderr or "codes [0, 0, 0]" in done.stdout, (
        done.stderr
    )
    at_home(lambda ws: ws.add(prepared / "new", "naval"), home)
    assert [ref for ref, *_ in state(home)[0]] == ["naval@1", "naval@2", "naval@3"]


def test_a_missing_home_is_made_by_a_writer_and_an_error_for_a_reader(tmp_path, prepared):
    with opened(tmp_path / "gone") as ws:
        for read in (ws.list, ws.fsck):
            with pytest.raises(NoWorkspace, match="gone: --home names it, and it does not exist"):
                read()
        ws.add(prepared / "new", "naval")
        assert [version.ref for version in ws.list()] == ["naval@1"]
        assert ws.fsck().sound


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_add_says_so_and_can_be_done_again(fresh, prepared, sent, code):
    home = fresh()
    command = [
        sys.executable,
        "-m",
        "adaptkit",
        "--home",
        home,
        "add",
        prepared / "new",
        "--name",
        "naval",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list((home / "tmp").glob(".adaptkit-*")) and process.poll() is None:
        pass  # until it is at work
    process.send_signal(sent)
    stderr = process.communicate()[1]
    assert process.returncode in {
        code,
        0,
        -sent,
    }  # -sent: Python itself was starting or ending, and died of the signal
    assert process.returncode == -sent or "Traceback" not in stderr
    assert process.returncode != code or "interrupted" in stderr
    assert not list((home / "tmp").glob(".adaptkit-*"))
    subprocess.run(command, check=True, capture_output=True)
    assert "naval@3" in [ref for ref, *_ in state(home)[0]]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_question_is_no(fresh, sent):
    home = fresh()
    command = [sys.executable, "-m", "adaptkit", "--home", home, "gc", "--trash", "0"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    asked = ""
    while "?" not in asked:
        asked += process.stderr.read(1)
    process.send_signal(sent)
    process.communicate()
    assert process.returncode == (130 if sent == signal.SIGINT else 143)
    assert state(home)[1] == ["medic@1"]


def test_the_database_is_sound_for_sqlite_itself_after_all_that(fresh, prepared):
    home = fresh()
    for verb in (add, alias):
        verb(prepared)(home)
    with opened(home) as ws, ws.registry._engine.connect() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"

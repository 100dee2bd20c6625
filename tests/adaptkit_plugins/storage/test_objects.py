"""adaptkit_plugins.storage.objects: races, kills, faults of the network, and what a bucket does not promise."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from threading import Barrier

import fault_server
import pytest
import servers
from artifacts import bundle

from adaptkit.errors import AdaptkitError, Corrupt, StorageError
from adaptkit.io.http import client as http
from adaptkit.remotes import transfer
from adaptkit.store.content_store import Store
from adaptkit_plugins.storage.objects import ObjectBackend, claims, probe

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
RACERS = 12
LARGE = 20 << 20
IN_SEVEN_SECONDS = fault_server.Later(7)


@pytest.fixture
def packed(tmp_path):
    def make(content, number=1, size=0):
        weights = (str(content).encode() * (size // len(str(content)) + 1))[:size] or str(
            content
        ).encode()
        return bundle(
            tmp_path / f"src-{content}",
            {CONFIG: b'{"r": 8}', WEIGHTS: weights, "README.md": str(content).encode()},
            number,
        )

    return make


@pytest.fixture
def place(moto, use):
    return ObjectBackend.open(f"s3://{use(moto)}/naval")


@pytest.fixture
def proxy(moto, use, monkeypatch):
    """A proxy before moto; nothing sleeps between tries, `pauses` are the waits."""
    root = use(moto)
    with fault_server.between(moto.endpoint) as one:
        monkeypatch.setenv("AWS_ENDPOINT_URL", one.url)
        one.pauses = []
        monkeypatch.setattr(http, "pause", one.pauses.append)
        one.root = root
        yield one


@pytest.fixture
def behind(proxy):
    """A place whose requests go through the proxy."""
    return ObjectBackend.open(f"s3://{proxy.root}/naval")


def keys(place):
    return set(place.bucket.entries())


def contents(place, number):
    """Every object of a version, past the place's own reading."""
    return {
        path.partition("/")[2]: place.bucket.get(path, 1 << 30)[0]
        for path in keys(place)
        if path.startswith(f"v{number}/")
    }


def whole(place):
    """Every committed version holds exactly the files of its manifest, byte for byte."""
    for placed in place.list():
        found = contents(place, placed.number)
        assert json.loads(found.pop("adaptkit.json"))["digest"] == placed.manifest.digest
        assert not [name for name in found if name.startswith(".")]
        entries = placed.manifest.files + placed.manifest.extras
        assert {name: sha256(data).hexdigest() for name, data in found.items()} == {
            e.path: e.sha256 for e in entries
        }
    return len(place.list())


def test_a_version_is_a_plain_folder_and_nothing_else_stays(place, packed):
    transfer.push(place, packed("a"), alias="prod")
    assert keys(place) == {
        f"v1/{CONFIG}",
        f"v1/{WEIGHTS}",
        "v1/README.md",
        "v1/adaptkit.json",
        "refs.json",
    }
    assert place.aliases() == {"prod": 1}


@pytest.mark.parametrize("server", ["moto", "ministack", "rclone"])
def test_twelve_pushes_at_once_never_mix_their_files(server, request, use, packed):
    url = f"s3://{use(request.getfixturevalue(server))}/naval"
    bundles, barrier = [packed(content) for content in range(RACERS)], Barrier(RACERS, timeout=60)

    def push(one):
        client = ObjectBackend.open(url)
        barrier.wait()
        return transfer.push(client, one)

    with ThreadPoolExecutor(RACERS) as pool:
        receipts = list(pool.map(push, bundles))
    assert len({receipt.number for receipt in receipts}) == RACERS
    assert whole(ObjectBackend.open(url)) == RACERS
    assert bool(receipts[0].note) == (server == "rclone")


@pytest.mark.parametrize("server", ["moto", "ministack"])
def test_twelve_alias_moves_at_once_lose_none(server, request, use, packed):
    url = f"s3://{use(request.getfixturevalue(server))}/naval"
    transfer.push(ObjectBackend.open(url), packed("a"))
    with ThreadPoolExecutor(RACERS) as pool:
        list(pool.map(lambda i: ObjectBackend.open(url).set_alias(f"a{i}", 1), range(RACERS)))
    assert ObjectBackend.open(url).aliases() == {f"a{i}": 1 for i in range(RACERS)}


def test_a_bucket_is_probed_once_and_reports_what_it_guarantees(moto, ministack, rclone, use):
    for server, holds in ((moto, True), (ministack, True), (rclone, False)):
        place = ObjectBackend.open(f"s3://{use(server)}/naval")
        promise = place.probe()
        assert (promise.create_only, promise.compare_and_swap) == (holds, holds)
        assert ("ignores conditional writes" in promise.note) is not holds
        assert probe.promise(place.bucket) is probe.promise(place.bucket)
        assert keys(place) == set()


def test_a_bucket_that_ignores_conditions_is_named_to_the_user_and_in_the_history(
    rclone, use, workspace, lora_pair
):
    url = f"s3://{use(rclone)}/naval"
    workspace.add(lora_pair[0], name="naval")
    pushed = workspace.push("naval", url)
    assert f"{url}: {probe.DEGRADED}" in workspace.noticed
    assert pushed.receipt.note == probe.DEGRADED
    assert workspace.pull(url).created is False
    with sqlite3.connect(workspace.home.path / "registry.db") as database:
        details = [
            row[0] for row in database.execute("select detail from events where verb = 'published'")
        ]
    database.close()
    assert any(probe.DEGRADED in detail for detail in details)


KILLED = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from artifacts import bundle
from adaptkit.remotes import transfer
from adaptkit_plugins.storage.objects import ObjectBackend
files = {{name: (Path({source!r}) / name).read_bytes() for name in {names!r}}}
transfer.push(ObjectBackend.open({url!r}), bundle(Path({scratch!r}), files),
             lambda count: print(count, flush=True))
"""


@pytest.mark.parametrize("server", ["moto", "rclone"])
@pytest.mark.parametrize("pieces", [1, 3, 8, 18])
def test_a_push_killed_at_any_point_is_not_seen_and_the_next_one_finishes(
    pieces, server, request, use, packed, tmp_path
):
    url = f"s3://{use(request.getfixturevalue(server))}/naval"
    one = packed("k", size=LARGE)
    code = KILLED.format(
        paths=[p for p in sys.path if p],
        source=str(tmp_path / "src-k"),
        scratch=str(tmp_path / "scratch"),
        names=[CONFIG, WEIGHTS, "README.md"],
        url=url,
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    for _ in range(pieces):
        assert process.stdout.readline(), "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    place = ObjectBackend.open(url)
    whole(place)
    receipt = transfer.push(place, one)
    assert whole(place) >= 1
    assert receipt.digest == one.manifest.digest
    if server == "moto":
        assert receipt.number == 1, "the number that was begun is finished"


def test_what_a_killed_push_had_sent_is_not_sent_again(place, packed):
    one = packed("a")
    arrived = []

    def stop(count):
        arrived.append(count)
        if len(arrived) == len(one.files):  # all are there, adaptkit.json is not
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.push(one, (), stop)
    assert place.list() == ()
    there = {path for path in keys(place) if not path.startswith(f"v1/{claims.CLAIM}")}
    receipt = transfer.push(ObjectBackend.open(place.url), one)
    assert receipt.number == 1
    assert receipt.sent == sum(e.size for e in one.files if f"v1/{e.path}" not in there)
    assert whole(place) == 1


def test_others_go_on_while_a_push_is_unfinished(place, packed):
    place.bucket.put(f"v1/{claims.CLAIM}", claims._body("sha256:of others"))
    place.bucket.put(f"v1/{WEIGHTS}", b"half")
    assert transfer.push(place, packed("b")).number == 2
    assert place.bucket.get(f"v1/{WEIGHTS}", 9)[0] == b"half"


def test_a_latecomer_who_claims_a_finished_number_writes_nothing_there(place, packed):
    transfer.push(place, packed("a"))
    before = contents(place, 1)
    late = packed("b")
    assert place.publish(late.placed, late, {}, lambda _: None) is None
    assert contents(place, 1) == before


def test_only_what_was_untouched_for_a_day_is_swept(rclone, use, packed):
    root = use(rclone)
    place = ObjectBackend.open(f"s3://{root}/naval")
    for number, age in ((1, 3600), (2, 100_000)):
        for name in (f"{claims.CLAIM}-x", WEIGHTS):
            place.bucket.put(f"v{number}/{name}", claims._body("sha256:of others"))
            os.utime(rclone.folder / root / "naval" / f"v{number}" / name, (time.time() - age,) * 2)
    place.bucket.put("v3/mine.txt", b"no push of ours")
    os.utime(rclone.folder / root / "naval/v3/mine.txt", (0, 0))
    assert transfer.push(place, packed("a")).number == 4
    left = {path for path in keys(place) if not path.startswith("v4/")}
    assert left == {f"v1/{claims.CLAIM}-x", f"v1/{WEIGHTS}", "v3/mine.txt"}


# ---------------------------------------------------------------- faults


def test_a_lost_response_to_the_commit_is_one_version(proxy, behind, packed):
    lost = proxy.harm("PUT", "v1/adaptkit.json", lose=500, times=1)
    receipt = transfer.push(behind, packed("a"))
    assert lost.hits == 1
    assert (receipt.number, receipt.unchanged) == (1, False)
    assert whole(behind) == 1


def test_a_lost_response_to_the_claim_loses_no_number(proxy, behind, packed):
    proxy.harm("PUT", claims.CLAIM, lose=503, times=1)
    assert transfer.push(behind, packed("a")).number == 1
    assert whole(behind) == 1


def test_a_store_that_is_busy_for_a_while_is_waited_for(proxy, behind, packed):
    harms = [
        proxy.harm("PUT", "v1/", status=503, times=2),
        proxy.harm("GET", "list-type", status=500, times=2),
        proxy.harm("GET", WEIGHTS, status=429, times=2),
    ]
    one = packed("a")
    transfer.push(behind, one)
    behind.pull(one.placed, one.files, one.paths[CONFIG].parent.parent / "new")
    assert [harm.hits for harm in harms] == [2, 2, 2]
    assert whole(behind) == 1


@pytest.mark.parametrize(("status", "value"), [(503, "7"), (429, IN_SEVEN_SECONDS)])
def test_the_retry_after_of_a_busy_store_is_waited_for(proxy, behind, packed, status, value):
    headers = {"Retry-After": value}
    busy = proxy.harm("PUT", f"v1/{WEIGHTS}", status=status, headers=headers, times=1)
    asked = proxy.harm("GET", f"v1/{WEIGHTS}", status=status, headers=headers, times=1)
    transfer.push(behind, packed("a"))
    assert (busy.hits, asked.hits) == (1, 1)
    assert proxy.pauses == [7.0]


def test_a_store_that_asks_for_an_hour_is_an_error_at_once(proxy, behind, packed):
    headers = {"Retry-After": "3600"}
    busy = proxy.harm("PUT", f"v1/{WEIGHTS}", status=503, headers=headers)
    proxy.harm("GET", f"v1/{WEIGHTS}", status=503, headers=headers)
    with pytest.raises(StorageError, match=r"it is too busy \(503\) and stayed so"):
        transfer.push(behind, packed("a"))
    assert busy.hits == 1
    assert proxy.pauses == []


def test_a_store_that_stays_busy_is_an_error_after_a_bounded_number_of_tries(proxy, behind, packed):
    harm = proxy.harm("PUT", f"v1/{WEIGHTS}", status=503)
    with pytest.raises(
        StorageError,
        match=r"cannot write s3://.*: it is too busy \(503\) and stayed so\n  try again later",
    ):
        transfer.push(behind, packed("a"))
    assert harm.hits == http.POLICY.tries
    proxy.harms.clear()
    assert transfer.push(behind, packed("a")).number == 1


def test_parts_that_fail_are_sent_again_and_a_large_file_arrives_whole(proxy, behind, packed):
    harm = proxy.harm("PUT", "partNumber=2", status=500, times=2)
    one, crossed = packed("large", size=LARGE), []
    receipt = behind.push(one, (), crossed.append)
    assert harm.hits == 2
    assert sum(crossed) == receipt.sent == sum(entry.size for entry in one.files)
    assert whole(behind) == 1


def test_a_file_that_changes_while_it_is_pushed_never_becomes_a_version(place, packed):
    for size in (0, LARGE):
        one = packed(f"changing{size}", size=size)
        path = one.paths[WEIGHTS]
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        with pytest.raises(
            Corrupt, match=f"the file '{WEIGHTS}' changed while it was pushed: .*\n  push it again"
        ):
            transfer.push(place, one)
        path.unlink()
        with pytest.raises(Corrupt, match=f"the file '{WEIGHTS}' went away while it was pushed"):
            transfer.push(place, one)
    assert place.list() == ()


@pytest.mark.parametrize("whole_again", [False, True], ids=["range", "range-ignored"])
def test_a_cut_download_goes_on_where_it_stopped(whole_again, proxy, behind, packed, tmp_path):
    one = packed("large", size=LARGE)
    transfer.push(behind, one)
    cut = proxy.harm("GET", f"v1/{WEIGHTS}", cut=LARGE // 2, times=1)
    if whole_again:
        proxy.harm("GET", f"v1/{WEIGHTS}", whole=True)
    manifest = transfer.fetch(behind, behind.version(1), Store(tmp_path / "store"))
    assert cut.hits == 1
    assert manifest.digest == one.manifest.digest


def test_same_size_corruption_and_truncation_are_named_and_never_stored(
    proxy, behind, packed, tmp_path
):
    transfer.push(behind, packed("abc"))
    store = Store(tmp_path / "store")
    for change in (
        lambda data: data[::-1],
        lambda data: data[:-1],
        lambda data: data + b"more" * 1000,
    ):
        proxy.harms.clear()
        proxy.harm("GET", f"v1/{WEIGHTS}", change=change)
        with pytest.raises(Corrupt, match=f"'{WEIGHTS}' of {behind.url}@1 is corrupt"):
            transfer.fetch(behind, behind.version(1), store)
        assert list(store.digests()) == []


def test_a_file_that_somebody_deleted_is_named(place, packed, tmp_path):
    transfer.push(place, packed("a"))
    place.bucket.delete([f"v1/{WEIGHTS}"])
    with pytest.raises(
        StorageError, match=f"'{WEIGHTS}' of {place.url}@1 is missing: somebody deleted it"
    ):
        transfer.fetch(place, place.version(1), Store(tmp_path / "store"))


def test_a_server_that_is_not_there_is_an_error(use, moto, packed, monkeypatch):
    root, port = use(moto), servers.free_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:hush@127.0.0.1:{port}")
    monkeypatch.setattr(http, "pause", lambda _: None)
    with pytest.raises(
        StorageError,
        match=f"cannot connect at 127.0.0.1:{port}\n  check the network and AWS_ENDPOINT_URL",
    ) as caught:
        ObjectBackend.open(f"s3://{root}/naval").list()
    assert "hush" not in str(caught.value)


def test_a_missing_bucket_is_named(moto, ministack, use):
    for server in (moto, ministack):
        use(server)
        place = ObjectBackend.open("s3://never-created/naval")
        for work in (place.list, place.aliases, place.probe):
            with pytest.raises(
                StorageError,
                match=r"there is no bucket 'never-created' at 127.*\n  create it with",
            ):
                work()


@pytest.mark.parametrize(
    ("variable", "why"),
    [
        ("AWS_ACCESS_KEY_ID", "the access key is not known there"),
        ("AWS_SECRET_ACCESS_KEY", "the secret does not match the access key"),
    ],
)
def test_wrong_credentials_are_an_error_that_repeats_none(
    variable, why, rclone, use, packed, monkeypatch
):
    root = use(rclone)
    monkeypatch.setenv(variable, "WRONG-AND-PRIVATE")
    place = ObjectBackend.open(f"s3://{root}/naval")
    for work in (place.list, place.probe, lambda: transfer.push(place, packed("a"))):
        with pytest.raises(StorageError, match=why) as caught:
            work()
        assert "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in str(caught.value)
        assert "PRIVATE" not in "".join(map(str, _chain(caught.value)))


def test_no_credentials_are_an_error(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(
        StorageError,
        match="no credentials were found\n  set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
    ):
        ObjectBackend.open("s3://bucket/naval").list()


@pytest.mark.parametrize(
    ("status", "code", "why"),
    [
        (
            403,
            "AccessDenied",
            r"you may not do that there \(AccessDenied\)\n  check AWS_.*what they may do in",
        ),
        (401, "", r"your credentials are not accepted there \(401\)"),
        (403, "ExpiredToken", r"the credentials have expired"),
        (400, "MalformedThing", "the store returned 400 MalformedThing"),
    ],
)
def test_a_refusal_of_the_store_is_an_error_with_its_reason(
    status, code, why, proxy, behind, packed
):
    transfer.push(behind, packed("a"))
    proxy.harm(
        "GET",
        "v1/adaptkit.json",
        status=status,
        body=f"<Error><Code>{code}</Code></Error>".encode(),
    )
    with pytest.raises(AdaptkitError, match=why):
        behind.version(1)


@pytest.mark.parametrize(
    "path",
    [
        "../../evil",
        "/etc/evil",
        "C:\\evil",
        "\\\\host\\evil",
        "a\0b",
        ".git/config",
        "evil.",
        "evil ",
        "ADAPTER_CONFIG.json",
        "adaptkit.json",
    ],
)
def test_a_hostile_name_in_a_manifest_is_refused_before_anything_is_written(
    path, place, packed, tmp_path
):
    transfer.push(place, packed("a"))
    text = place.bucket.get("v1/adaptkit.json", 1 << 20)[0].decode()
    place.bucket.put("v1/adaptkit.json", text.replace(WEIGHTS, json.dumps(path)[1:-1]).encode())
    with pytest.raises(Corrupt, match=r"adaptkit.json of .*@1 cannot be trusted"):
        transfer.fetch(place, place.version(1), Store(tmp_path / "store"))
    assert not (tmp_path / "store").exists() or not list((tmp_path / "store").rglob("*.*"))
    assert place.list() == ()


def test_a_manifest_that_is_too_large_is_not_read(place, packed):
    transfer.push(place, packed("a"))
    place.bucket.put("v1/adaptkit.json", b" " * (5 << 20))
    with pytest.raises(Corrupt, match="more than 4,194,304 bytes"):
        place.version(1)


@pytest.mark.parametrize(
    "url",
    [
        "s3:///naval",
        "s3://b/naval",
        "s3://KEY:hush@bucket/naval",
        "s3://bucket/a?X=hush",
        "s3://bucket/../a",
        "gs://bucket/a%00b",
        "az://bucket/a//b",
    ],
)
def test_a_url_that_names_no_bucket_is_an_error_without_secrets(url):
    with pytest.raises(StorageError, match="cannot read (the|a) place") as caught:
        ObjectBackend.open(url)
    assert "hush" not in str(caught.value)


def test_a_missing_library_is_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(
        AdaptkitError,
        match=r"cannot open s3://bucket/naval: .*'s3' is not installed\n  pip install 'adaptkit-peft\[s3\]'",
    ):
        ObjectBackend.open("s3://bucket/naval").list()


@pytest.mark.parametrize(
    ("scheme", "kind"), [("s3", "S3Store"), ("gs", "GCSStore"), ("az", "AzureStore")]
)
def test_each_scheme_has_its_client(scheme, kind, use, moto, monkeypatch):
    use(moto)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "fleet")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "bm90IGEga2V5")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    assert type(ObjectBackend.open(f"{scheme}://bucket/naval").address.store(0)).__name__ == kind


def test_a_root_lists_the_adapters_below_it(place, packed):
    transfer.push(place, packed("a"))
    root = place.url.rpartition("/")[0]
    transfer.push(ObjectBackend.open(f"{root}/team/medic"), packed("b"))
    assert ObjectBackend.open(root).names() == ("naval", "team/medic")


def _chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)

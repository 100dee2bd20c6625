"""Where a workspace lives, and what its configuration may say."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import run

from adaptkit import AdaptkitError, Workspace
from adaptkit.errors import BadReference, NotFound, NoWorkspace, StorageError
from adaptkit.workspace.context.author import git_author
from adaptkit.workspace.context.home import Home


def test_what_is_given_comes_before_the_environment_and_that_before_the_folders_upward(
    tmp_path, monkeypatch
):
    (tmp_path / "project" / ".adaptkit").mkdir(parents=True)
    (tmp_path / "project" / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "project" / "deep")
    environment = {"ADAPTKIT_HOME": str(tmp_path / "given")}
    assert Home.find(tmp_path / "given", environment).path == tmp_path / "given"
    assert Home.find(None, environment).path == tmp_path / "given"
    assert Home.find(None, {}).path == tmp_path / "project" / ".adaptkit"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert Home.find(None, {}).path == tmp_path / "data" / "adaptkit"


def test_a_home_is_made_only_when_something_is_written(tmp_path):
    home = Home(tmp_path / "home")
    assert home.read_config({}).remotes == {}
    assert not home.path.exists()
    home.set_remote("team", "file:///mnt/team")
    assert home.read_config({}).remote("team") == "file:///mnt/team"


def test_comments_and_other_settings_survive_a_change_of_remotes(tmp_path):
    home = Home(tmp_path)
    home.config_file.write_text(
        '# ours\nauthor = "ada"  # me\n\n[remotes]\nold = "file:///old" # keep\n'
    )
    home.set_remote("team", "file:///team")
    home.set_remote("absent", None)
    text = home.config_file.read_text()
    assert "# ours" in text
    assert 'author = "ada"  # me' in text
    assert 'old = "file:///old" # keep' in text
    assert home.read_config({}).remotes == {"old": "file:///old", "team": "file:///team"}


def test_the_environment_overrides_the_file(tmp_path):
    home = Home(tmp_path)
    home.config_file.write_text('author = "ada"\nregistry_url = "sqlite:///x"\n')
    assert home.read_config({"USER": "root"}).author == "ada"
    config = home.read_config(
        {"ADAPTKIT_AUTHOR": "bo", "ADAPTKIT_REGISTRY_URL": "postgresql+psycopg://host/db"}
    )
    assert (config.author, config.registry_url) == ("bo", "postgresql+psycopg://host/db")


def test_names_of_remotes_are_checked_and_unknown_ones_show_the_known(tmp_path):
    home = Home(tmp_path)
    home.set_remote("team", "file:///team")
    with pytest.raises(BadReference):
        home.set_remote("../evil", "file:///x")
    with pytest.raises(StorageError, match="cannot name a remote"):
        home.set_remote("a/b", "file:///x")
    with pytest.raises(NotFound, match="no remote called 'tame': known is team"):
        home.read_config({}).remote("tame")


def test_the_policy_and_the_reviews_are_read_and_a_relative_file_is_beside_the_configuration(
    tmp_path,
):
    home = Home(tmp_path)
    assert (home.read_config({}).policy, home.read_config({}).reviews.enable) == (None, ())
    home.config_file.write_text(
        '[policy]\nfile = "../policy.toml"\n[review]\nenable = ["licence"]\ndisable = ["paths"]\n'
    )
    config = home.read_config({})
    assert config.policy == tmp_path / ".." / "policy.toml"
    assert (config.reviews.enable, config.reviews.disable) == (("licence",), ("paths",))
    assert config.reviews.on("licence", default=False)
    assert not config.reviews.on("paths", default=True)
    home.config_file.write_text('[policy]\nfile = "/etc/adaptkit/policy.toml"\n')
    assert home.read_config({}).policy == Path("/etc/adaptkit/policy.toml")


SLIPS = [
    (
        'author = "ada"\nprotectd = ["prod"]',
        2,
        "the file has no key 'protectd', nearest is 'protected'",
    ),
    (
        '[remotes]\nteam = "s3://b/x"\nprotected = ["prod"]',
        3,
        "'protected' stands in [remotes] and belongs at the top of the file",
    ),
    (
        '[remotes]\nteam = ["s3://b/x"]',
        2,
        "'remotes.team' is a list, and must be text in quotes",
    ),
    (
        '[remotes]\nauthor = "s3://b/x"',
        2,
        "'author' stands in [remotes] and belongs at the top of the file, above every [table]",
    ),
    (
        '[endpoints]\nhf = "https://hub"\nregistry_url = "sqlite:///x"',
        3,
        "'registry_url' stands in [endpoints] and belongs at the top of the file",
    ),
    (
        '[review]\nenable = ["licence"]\nprotected = ["prod"]',
        3,
        "'protected' stands in [review] and belongs at the top of the file",
    ),
    ('\nfile = "policy.toml"', 2, "'file' stands at the top of the file and belongs in [policy]"),
    ('[policy]\ndisable = ["paths"]', 2, "'disable' stands in [policy] and belongs in [review]"),
    ('[polcy]\nfile = "x"', 1, "the file has no key 'polcy', nearest is 'policy'"),
    ('[policy]\nfiles = "x"', 2, "[policy] has no key 'files', nearest is 'file'"),
    (
        '# a\n[review]\nenabled = ["licence"]',
        3,
        "[review] has no key 'enabled', nearest is 'enable'",
    ),
    ('review.enabled = ["licence"]', 1, "[review] has no key 'enabled', nearest is 'enable'"),
    ("[policy]\nfile = 3", 2, "'policy.file' is a whole number, and must be text in quotes"),
    ('[policy]\nfile = ""', 2, "'policy.file' is empty"),
    ('[review]\nenable = "licence"', 2, "'review.enable' is text in quotes, and must be a list"),
    (
        "[review]\nenable = [3]",
        2,
        "number 1 of enable is a whole number, and must be text in quotes",
    ),
    ('[review]\nenable = ["licence", 3]', 2, "number 2 of enable is a whole number"),
    ('policy = "x"', 1, "'policy' is text in quotes, and must be a table"),
    ("review = 3", 1, "'review' is a whole number, and must be a table"),
    ("remotes = [1]", 1, "'remotes' is a list, and must be a table"),
    ("author = true", 1, "'author' is true or false, and must be text in quotes"),
    ('protected = "prod"', 1, "'protected' is text in quotes, and must be a list"),
    ('protected = ["prod", "a b"]', 1, "'a b' cannot be an alias"),
    ('[remotes]\nteam = "mnt/team"', 2, "the remote 'team' is 'mnt/team', which is no URL"),
    ('[remotes]\n"a/b/c" = "s3://x"', 2, "'a/b/c' is not a name"),
    (
        "[quotas]\nstore = 1.5",
        2,
        "'quotas.store' is a number, and must be a whole number or text in quotes",
    ),
    ('author = "ada"\nprotected = [', 2, ""),
    ('author = "ada"\nauthor = "bo"', 2, "Cannot overwrite a value"),
    ("a\n\xff", 2, "it is not UTF-8"),
]


@pytest.mark.parametrize(("text", "line", "why"), SLIPS)
def test_a_mistake_in_the_configuration_is_an_error_with_file_line_and_reason(
    text, line, why, tmp_path
):
    home = Home(tmp_path)
    home.config_file.write_bytes(text.encode("latin-1"))
    with pytest.raises(AdaptkitError) as caught:
        home.read_config({})
    assert caught.value.what == f"cannot read {home.config_file}, line {line}"
    assert caught.value.why.startswith(why)
    assert caught.value.fix.endswith("docs/configuration.md shows every key")


def test_a_mistake_shows_what_to_do_about_it(tmp_path):
    home = Home(tmp_path)
    home.config_file.write_text('protectd = ["prod"]')
    with pytest.raises(AdaptkitError) as caught:
        home.read_config({})
    assert str(caught.value) == (
        f"cannot read {home.config_file}, line 1: the file has no key 'protectd', nearest is 'protected'\n"
        "  known are author, registry_url, executor, protected, remotes, policy, review, quotas, endpoints, gates; "
        "docs/configuration.md shows every key"
    )


@pytest.mark.parametrize("text", ["x = " + "[" * 100_000, "# " + "x" * (1 << 20)])
def test_a_configuration_that_is_meant_to_hurt_is_refused(text, tmp_path):
    home = Home(tmp_path)
    home.config_file.write_text(text)
    with pytest.raises(AdaptkitError, match="nested too deeply|larger than 1,048,576 bytes"):
        home.read_config({})


def test_a_broken_configuration_is_not_changed(tmp_path):
    home = Home(tmp_path)
    home.config_file.write_text("protectd = []")
    with pytest.raises(AdaptkitError, match="cannot change .*config.toml, line 1"):
        home.set_remote("team", "file:///team")
    with pytest.raises(AdaptkitError, match="cannot change .*config.toml, line 1"):
        home.write_config(("author",), "ada")
    assert home.config_file.read_text() == "protectd = []"


def test_what_would_not_be_read_again_is_not_written(tmp_path):
    home = Home(tmp_path)
    home.write_config(("author",), "ada")
    with pytest.raises(AdaptkitError, match=r"cannot set protected: 'a b' cannot be an alias"):
        home.write_config(("protected",), ["a b"])
    with pytest.raises(AdaptkitError, match=r"cannot set remotes.protected: 'protected' stands in"):
        home.set_remote("protected", "s3://bucket/x")
    assert home.config_file.read_text() == 'author = "ada"\n'


def test_a_setting_of_the_top_is_written_above_the_tables(tmp_path):
    home = Home(tmp_path)
    home.config_file.write_text('[remotes]\nteam = "file:///team"  # keep\n')
    home.write_config(("protected",), ["prod"])
    config = home.read_config({})
    assert (config.protected, config.remotes) == (("prod",), {"team": "file:///team"})
    assert "# keep" in home.config_file.read_text()


def test_the_example_of_the_page_holds_every_key(tmp_path):
    from adaptkit.workspace.context.config_file import known_keys

    page = (Path(__file__).parents[4] / "docs" / "configuration.md").read_text()
    home = Home(tmp_path)
    home.config_file.write_text(page.partition("```toml\n")[2].partition("```")[0])
    config = home.read_config({})
    assert config.protected == ("prod",)
    assert config.quotas == {"store": "200 GB"}
    assert {key.partition(".")[0] for key in known_keys()} <= set(config.__slots__) | {
        "author",  # a property: with git's as the one to fall back on
        "policy",
        "review",
    }


READING = [
    ["list"],
    ["log", "--events"],
    ["restore"],
    ["fsck"],
    ["gc"],
    ["info"],
    ["verify"],
    ["remote", "list"],
    ["config", "list"],
    ["base", "list"],
]


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_reading_never_makes_a_home(command, tmp_path):
    done = run(command, tmp_path, XDG_DATA_HOME=str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_looking_at_folders_makes_no_home(lora_pair, tiny_llama, tmp_path):
    one, two = lora_pair
    folders = {"XDG_DATA_HOME": str(tmp_path / "data"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for command in (["show", one], ["diff", one, two], ["base", "show", tiny_llama]):
        done = run(command, tmp_path, **folders)
        assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}


@pytest.mark.parametrize("command", [*READING, ["show", "naval"]], ids=" ".join)
def test_a_chosen_home_that_does_not_exist_is_an_error_and_is_not_made(command, tmp_path):
    home = tmp_path / "typo"
    for chosen, environment in ((["--home", home], {}), ([], {"ADAPTKIT_HOME": str(home)})):
        done = run([*chosen, *command], tmp_path, **environment)
        assert done.returncode == 1
        assert f"there is no workspace at {home}" in done.stderr
        assert f"{'--home' if chosen else 'ADAPTKIT_HOME'} names it" in done.stderr
    assert not home.exists()


def test_a_folder_of_something_else_is_no_home(tmp_path, lora_pair):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "ship.png").write_bytes(b"")
    for command in (
        ["list"],
        ["add", lora_pair[0], "--name", "naval"],
        ["init"],
        ["diff", *lora_pair],
    ):
        done = run(["--home", tmp_path / "photos", *command], tmp_path)
        assert done.returncode == 1
        assert f"{tmp_path}/photos is no workspace: it holds ship.png" in done.stderr
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["ship.png"]
    Workspace.init(tmp_path / "project").close()
    (tmp_path / "project" / "train.py").touch()
    done = run(["--home", tmp_path / "project", "list"], tmp_path)
    assert f"adaptkit --home {tmp_path}/project/.adaptkit" in done.stderr
    (tmp_path / "file").touch()
    with pytest.raises(NoWorkspace, match=r"file is no workspace: it is a file\n  check --home"):
        Workspace.open(tmp_path / "file").list()


def test_an_add_outside_a_home_says_where_it_goes_the_first_time(tmp_path, lora_pair):
    data = str(tmp_path / "data")
    first = run(["add", lora_pair[0], "--name", "naval"], tmp_path, XDG_DATA_HOME=data)
    assert f"made a workspace in {data}/adaptkit" in first.stderr
    second = run(["add", lora_pair[1], "--name", "medic"], tmp_path, XDG_DATA_HOME=data)
    assert "made a workspace" not in second.stderr


def test_init_says_whether_it_made_or_found_and_keeps_the_home_out_of_git(tmp_path):
    home = tmp_path / ".adaptkit"
    assert run(["init"], tmp_path).stderr == f"made a workspace in {home}\n"
    assert (home / ".gitignore").read_text().splitlines()[-1] == "*"
    (home / ".gitignore").write_text("mine\n")
    found = run(["init"], tmp_path).stderr
    assert found == f"found a workspace in {home}, nothing is new\n"
    assert (home / ".gitignore").read_text() == "mine\n"


@pytest.mark.parametrize(
    "left",
    [[], [".gitignore"], ["..gitignore.852e91e044cbdc5f.tmp"], [".gitignore", "registry.db.lock"]],
)
def test_an_init_that_was_killed_is_done_by_the_next(left, tmp_path):
    home = tmp_path / ".adaptkit"
    home.mkdir()
    for name in left:
        (home / name).write_bytes(b"")
    with Workspace.init(tmp_path, notify=lambda _: None) as ws:
        assert ws.list() == ()


def test_a_folder_of_other_temporary_files_is_no_home(tmp_path):
    (tmp_path / ".adaptkit").mkdir()
    (tmp_path / ".adaptkit" / "notes.tmp").write_bytes(b"")
    with pytest.raises(NoWorkspace, match=r"it holds notes.tmp and none of cache"):
        Workspace.init(tmp_path, notify=lambda _: None)


def test_init_makes_the_home_that_the_environment_names_unless_a_folder_is_given(tmp_path):
    home = tmp_path / "homes" / "mine"
    done = run(["init"], tmp_path, ADAPTKIT_HOME=str(home))
    assert done.stderr == f"made a workspace in {home}\n"
    done = run(["init", "project"], tmp_path, ADAPTKIT_HOME=str(home))
    assert done.stderr == f"made a workspace in {tmp_path}/project/.adaptkit\n"
    assert not (tmp_path / ".adaptkit").exists()


def test_where_nothing_is_registered_the_place_is_shown(tmp_path):
    Workspace.init(tmp_path).close()
    home = tmp_path / ".adaptkit"
    assert f"no adapters yet in {home}: adaptkit add" in run(["list"], tmp_path).stderr
    assert f"looked in {home}/registry.db" in run(["show", "naval"], tmp_path).stderr


def test_a_database_that_another_process_makes_is_seen(tmp_path, lora_pair):
    with Workspace.open(tmp_path / "home") as reader:
        assert reader.registry.versions() == []
        with Workspace.open(tmp_path / "home") as writer:
            writer.add(lora_pair[0], "naval")
        assert [v.ref for v in reader.registry.versions()] == ["naval@1"]


@pytest.mark.parametrize(
    "name", ["ADAPTKIT_AUTHOR", "ADAPTKIT_REGISTRY_URL", "ADAPTKIT_EXECUTOR", "USER"]
)
def test_a_variable_that_is_no_text_is_named(name, tmp_path):
    with pytest.raises(AdaptkitError) as caught:
        Home(tmp_path).read_config({name: "a\udcff"})
    assert str(caught.value) == (
        f"{name} cannot be used: it has bytes that are not UTF-8\n  set it again: export {name}=…"
    )


def test_a_folder_that_looks_like_a_bare_repository_names_no_author(tmp_path, monkeypatch):
    """A clone may bring one: git would take its `config` for that of the repository one stands in."""
    (tmp_path / "objects").mkdir()
    (tmp_path / "refs").mkdir()
    (tmp_path / "HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / "config").write_text("[user]\nname = mallory\n[core]\nbare = true\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "own"))
    (tmp_path / "own").write_text("[user]\nname = ada\n")
    git_author.cache_clear()
    assert git_author() == "ada"
    git_author.cache_clear()

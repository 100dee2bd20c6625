"""adaptkit_registry on a real PostgreSQL: writers that queue, crashes, passwords, roles, and no lost update."""

from __future__ import annotations

import os
import signal
from collections import deque
from itertools import count

import pytest
from artifacts import manifest
from concurrency import FORK, at_once
from postgres import started
from sqlalchemy import event

from adaptkit.errors import RegistryError, RegistryLocked
from adaptkit_registry import Registry


@pytest.fixture
def url(postgres):
    return postgres.database()


def _statements(registry, work):
    """How many statements a change takes."""
    seen = []
    hear = event.listens_for(registry._engine, "before_cursor_execute")
    hear(lambda connection, cursor, statement, *rest: seen.append(statement))
    work()
    return len(seen)


# ---------------------------------------------------------------- crowds


def test_twelve_writers_number_densely_and_lose_no_update(database):
    with Registry.open(database) as registry:
        registry.add_version("naval", manifest("first"), alias="count")

    def adds(worker):
        def work():
            with Registry.open(database) as registry:
                for i in range(6):
                    registry.add_version("naval", manifest((worker, i)), alias="newest")
                    registry.annotate("naval", 1, tags=[f"{worker}-{i}"])
            return worker

        return work

    assert at_once(adds(worker) for worker in range(12)) == list(range(12))
    with Registry.open(database) as registry:
        numbers = [version.number for version in registry.versions(name="naval")]
        assert numbers == list(range(1, 74))
        assert len(registry.version("naval", number=1).tags) == 72
        moves = registry.alias_history("naval", "newest")
        assert [m.old for m in moves[1:]] == [m.new for m in moves[:-1]]
        assert registry.aliases("naval")["newest"] == 73


def test_a_forked_child_and_its_parent_do_not_share_a_connection(database):
    with Registry.open(database) as registry:
        registry.add_version("naval", manifest(0))

        def child():
            for i in range(5):
                registry.add_version("naval", manifest(("child", i)))

        process = FORK.Process(target=child)
        process.start()
        for i in range(5):
            registry.add_version("naval", manifest(("parent", i)))
        process.join()
        assert process.exitcode == 0
        assert [v.number for v in registry.versions(name="naval")] == list(range(1, 12))


def test_threads_share_one_registry(database):
    from concurrent.futures import ThreadPoolExecutor

    with Registry.open(database) as registry, ThreadPoolExecutor(6) as pool:
        made = list(
            pool.map(lambda i: registry.add_version("naval", manifest(i))[0].number, range(24))
        )
        assert sorted(made) == list(range(1, 25))


# ---------------------------------------------------------------- what goes wrong in mid-transaction


def _fails_first(postgres, url, times, state):
    """Let the server itself refuse the first insertions into `events`; a sequence counts on through rollbacks."""
    postgres.sql("CREATE SEQUENCE turns", url)
    postgres.sql(
        f"""CREATE FUNCTION trip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('turns') <= {times} THEN RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '{state}'; END IF;
        RETURN NEW; END $$""",
        url,
    )
    postgres.sql(
        "CREATE TRIGGER trip BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION trip()", url
    )


@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_what_the_server_undid_is_done_once_more_and_leaves_one_version(postgres, url, state):
    with Registry.open(url) as registry:
        _fails_first(postgres, url, 1, state)
        version, new = registry.add_version("naval", manifest(1), alias="prod")
        assert (version.number, new, version.aliases) == (1, True, ("prod",))
        assert [e.verb for e in registry.events()] == ["alias-moved", "added"]


def test_a_change_the_server_rolls_back_twice_is_an_error_and_nothing_is_written(postgres, url):
    with Registry.open(url) as registry:
        _fails_first(postgres, url, 2, "40001")
        with pytest.raises(
            RegistryError, match="undid this change: it collided with another change"
        ) as caught:
            registry.add_version("naval", manifest(1))
        assert caught.value.fix == "try again"
        assert registry.versions() == []
        assert registry.add_version("naval", manifest(1))[0].number == 1


def test_a_connection_cut_at_any_statement_leaves_the_old_state_and_the_next_try_works(
    postgres, url
):
    with Registry.open(url) as registry:
        registry.add_version("naval", manifest(0))
        steps = _statements(
            registry, lambda: registry.add_version("naval", manifest("count"), alias="prod")
        )
    print(f"add: cut off at {steps} statements")
    assert steps > 8
    for step in range(steps):
        with Registry.open(url) as registry:
            before, left = registry.versions(), [step]

            @event.listens_for(registry._engine, "before_cursor_execute")
            def cut(connection, *_, left=left):
                if left and left[0] == 0:
                    left.clear()
                    pid = connection.connection.dbapi_connection.info.backend_pid
                    postgres.sql(f"SELECT pg_terminate_backend({pid}, 5000)")
                elif left:
                    left[0] -= 1

            with pytest.raises(
                RegistryError, match="the connection to the registry .* broke"
            ) as caught:
                registry.add_version("naval", manifest(step), alias="prod")
            assert "whole or not at all" in caught.value.fix
            assert registry.versions() == before
            version, new = registry.add_version("naval", manifest(step), alias="prod")
            assert (version.number, new) == (before[-1].number + 1, True)


def test_a_server_that_crashes_keeps_every_acknowledged_change(tmp_path):
    with started() as own:
        url = own.database()

        def writes(pipe):
            with Registry.open(url) as registry:
                made = (
                    registry.add_version("naval", manifest(i), alias="prod")[0] for i in count()
                )
                with pytest.raises(RegistryError):
                    deque((pipe.send(version.number) for version in made), maxlen=0)

        acknowledged = []
        for _ in range(3):
            here, there = FORK.Pipe(duplex=False)
            process = FORK.Process(target=writes, args=(there,))
            process.start()
            there.close()
            acknowledged += [here.recv() for _ in range(25)]
            os.kill(
                own.server.get_pid(), signal.SIGQUIT
            )  # immediate shutdown: no checkpoint, recovery at the next start
            try:
                while True:
                    acknowledged.append(here.recv())
            except EOFError:
                process.join()
            assert process.exitcode == 0  # an error message, no traceback
            own.restart()
            with Registry.open(url) as registry:
                numbers = [v.number for v in registry.versions(name="naval")]
                assert numbers == list(range(1, len(numbers) + 1))
                assert len(numbers) - acknowledged[-1] in {0, 1}
                assert registry.aliases("naval") == {"prod": numbers[-1]}
            here.close()


# ---------------------------------------------------------------- locks


def test_a_writer_waits_no_longer_than_it_was_told_to_and_readers_not_at_all(
    postgres, url, monkeypatch
):
    monkeypatch.setenv("ADAPTKIT_BUSY_TIMEOUT", "0.2")
    with Registry.open(url) as registry, Registry.open(url) as other:
        registry.add_version("naval", manifest(1))
        with other._writing():
            with pytest.raises(
                RegistryLocked, match=r"is locked: another process held it .* 0\.2 s"
            ):
                registry.add_version("naval", manifest(2))
            assert registry.version("naval").number == 1
        assert registry.add_version("naval", manifest(2))[0].number == 2


def test_a_killed_holder_of_the_lock_blocks_no_other_process(url):
    with Registry.open(url) as registry:
        registry.add_version("naval", manifest(1))
    here, there = FORK.Pipe(duplex=False)

    def holds():
        with Registry.open(url) as registry, registry._writing():
            there.send("mine")
            signal.pause()

    process = FORK.Process(target=holds)
    process.start()
    assert here.recv() == "mine"
    process.kill()
    process.join()
    with Registry.open(url) as registry:
        assert registry.add_version("naval", manifest(2))[0].number == 2


def test_first_openings_at_once_make_one_schema(url):
    def opens():
        with Registry.open(url) as registry:
            return registry.names()

    assert at_once([opens] * 8) == [()] * 8


# ---------------------------------------------------------------- who may


def test_a_reader_by_grant_reads_and_is_told_what_it_may_not(postgres, url):
    with Registry.open(url) as registry:
        registry.add_version("naval", manifest(1))
    name = url.partition("@/")[2].partition("?")[0]
    postgres.sql(
        f"CREATE ROLE reader_{name} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader_{name}",
        url,
    )
    with Registry.open(postgres.url(name, f"reader_{name}")) as registry:
        assert registry.version("naval").number == 1
        with pytest.raises(
            RegistryError, match=f"does not let 'reader_{name}' do this: permission denied"
        ) as caught:
            registry.add_version("naval", manifest(2))
    assert "docs/teams.md" in caught.value.fix


def test_a_missing_database_is_an_error(postgres):
    with pytest.raises(RegistryError, match="there is no database at .*/nowhere") as caught:
        Registry.open(postgres.url("nowhere"))
    assert caught.value.fix == "createdb nowhere"


def test_a_database_of_another_program_is_refused_and_left_alone(postgres, url):
    postgres.sql("CREATE TABLE songs (title text)", url)
    with pytest.raises(
        RegistryError, match="belongs to another program: it holds the tables songs"
    ):
        Registry.open(url)
    assert postgres.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", url) == [(1,)]


def test_a_database_from_the_future_is_refused(postgres, url):
    Registry.open(url).close()
    postgres.sql("UPDATE alembic_version SET version_num = '0999'", url)
    with pytest.raises(RegistryError, match="written by a newer adaptkit: its schema is 0999"):
        Registry.open(url)


def test_a_wrong_password_is_never_shown():
    with started() as own:
        own.sql("CREATE ROLE ada LOGIN PASSWORD 'right'")
        own.require_passwords()
        for secret in ("hunter2", "right"):
            url_with_password = f"postgresql+psycopg://ada:{secret}@/postgres?host={own.folder}"
            if secret == "right":
                own.sql("GRANT CREATE ON SCHEMA public TO ada")
                Registry.open(url_with_password).close()
                continue
            with pytest.raises(
                RegistryError, match="rejected your login: .*password authentication failed"
            ) as caught:
                Registry.open(url_with_password)
            assert "hunter2" not in str(caught.value)
            assert "ada:***@" in str(caught.value)


def test_a_password_in_the_query_of_a_url_is_not_shown_either():
    with pytest.raises(RegistryError, match="cannot reach the registry") as caught:
        Registry.open(
            "postgresql+psycopg://ada@127.0.0.1:1/adaptkit?password=hunter2&sslpassword=hunter3"
        )
    assert "hunter" not in str(caught.value)

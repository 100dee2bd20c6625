"""adaptkit.training.data.datasets: every form is detected, counted and read; what is broken is named by its line."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from adaptkit.errors import BadData
from adaptkit.training.data.datasets import DataFile, open_data, parse_columns
from adaptkit.training.data.forms import ALPACA
from adaptkit.training.data.rows import Chat, Judged, Labelled, Message, Pair, Preference, Text

ASK, SAY = {"role": "user", "content": "Hull?"}, {"role": "assistant", "content": "Hull 90%."}
TURNS = (Message("user", "Hull?"), Message("assistant", "Hull 90%."))
FORMS = {
    "messages": ({"messages": [ASK, SAY]}, Chat(TURNS)),
    "sharegpt": (
        {
            "conversations": [
                {"from": "human", "value": "Hull?"},
                {"from": "gpt", "value": "Hull 90%."},
            ],
            "system": "Be brief.",
        },
        Chat((Message("system", "Be brief."), *TURNS)),
    ),
    "prompt/completion": (
        {"prompt": "Hull?", "completion": "Hull 90%."},
        Pair("Hull?", "Hull 90%."),
    ),
    "alpaca": (
        {"instruction": "Report.", "input": "", "output": "Hull 90%."},
        Pair(ALPACA.format(instruction="Report."), "Hull 90%."),
    ),
    "text": ({"text": "Hull 90%."}, Text("Hull 90%.")),
    "classes": ({"text": "Hull 90%.", "label": 3}, Labelled("Hull 90%.", "3")),
    "preferences": (
        {"prompt": "Hull?", "chosen": "Hull 90%.", "rejected": "Hello!"},
        Preference("Hull?", "Hull 90%.", "Hello!"),
    ),
    "judgements": (
        {"prompt": "Hull?", "completion": "Hello!", "label": False},
        Judged("Hull?", "Hello!", good=False),
    ),
}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_json_lines_is_detected_and_read(form, tmp_path):
    record, row = FORMS[form]
    data = DataFile.open(write(tmp_path / "log.jsonl", record, record))
    assert data.form.name == form
    assert list(data.rows()) == [row, row]
    assert data.facts().to_json()["rows"] == 2
    assert data.facts().digest.startswith("sha256:")


def test_a_shared_beginning_is_the_prompt_of_preferences_without_one(tmp_path):
    worse = {"role": "assistant", "content": "Hello!"}
    (row,) = DataFile.open(
        write(tmp_path / "a.jsonl", {"chosen": [ASK, SAY], "rejected": [ASK, worse]})
    ).rows()
    assert row == Preference(TURNS[:1], TURNS[1:], (Message("assistant", "Hello!"),))


def test_an_array_csv_tsv_parquet_and_plain_text_are_read_alike(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    records = [{"prompt": f"Hull {i}?", "completion": f"Hull {i}%.\nOver."} for i in range(300)]
    (tmp_path / "a.json").write_text(json.dumps(records, indent=1))
    write(tmp_path / "a.jsonl", *records)
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        lines = [f'"{r["prompt"]}"{delimiter}"{r["completion"]}"' for r in records]
        (tmp_path / name).write_text("\n".join([f"prompt{delimiter}completion", *lines]))
    pa.parquet.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    expected = [Pair(r["prompt"], r["completion"]) for r in records]
    for name in ("a.json", "a.jsonl", "a.csv", "a.tsv", "a.parquet"):
        assert list(DataFile.open(tmp_path / name).rows()) == expected, name
    (tmp_path / "a.txt").write_text("Hull 90%.\n\nShields 80%.\n")
    assert list(DataFile.open(tmp_path / "a.txt").rows()) == [
        Text("Hull 90%."),
        Text("Shields 80%."),
    ]


def test_columns_of_other_names_are_mapped(tmp_path):
    path = write(tmp_path / "a.jsonl", {"question": "Hull?", "reply": "Hull 90%.", "prompt": "no"})
    columns = parse_columns(["prompt=question,completion=reply"])
    assert list(DataFile.open(path, columns=columns).rows()) == [Pair("Hull?", "Hull 90%.")]
    with pytest.raises(BadData, match="has no column 'answer'[\\s\\S]*prompt, question, reply"):
        DataFile.open(path, columns={"completion": "answer"})
    with pytest.raises(BadData, match="FIELD=COLUMN, and the fields are .*prompt"):
        parse_columns(["question"])


GOOD = {"prompt": "Hull?", "completion": "Hull 90%."}
BROKEN = {
    '{"prompt": "Hull?"': "it is not JSON",
    '{"prompt": "Hull?", "completion": NaN}': "NaN is not a value",
    '{"prompt": "Hull \\ud800?", "completion": "90%"}': "it has half a surrogate pair",
    "[1, 2]": r"it is \[1, 2\], not an object",
    '{"prompt": "Hull?"}': "'completion' is missing",
    '{"prompt": "Hull?", "completion": 3}': "'completion' is the number 3, not a text",
    '{"prompt": "Hull?", "completion": " "}': "'completion' is empty",
    '{"messages": [{"role": "user", "content": "Hull?"}]}': "it is of the form messages",
    "[" * 100_000: "it is not JSON",
    "{": "it is not a whole object: a row stands on one line",
    '{"prompt": ["a"], "completion": "x"}': "message 1 of 'prompt' is a text, not an object",
    r'{"prompt": "Hull \ud83d?", "completion": "x"}': "it has half a surrogate pair",
}


@pytest.mark.parametrize("line", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_line_is_named_by_its_number_or_counted(line, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{line}\n{json.dumps(GOOD)}\n")
    with pytest.raises(BadData, match=f"line 2 of .*a.jsonl cannot be used: .*{BROKEN[line]}"):
        list(DataFile.open(path).rows())
    data = DataFile.open(path, skip_bad=True)
    assert len(list(data.rows())) == 2
    assert (data.count, data.skipped) == (2, 1)


def test_a_pair_of_halves_is_one_character_and_an_array_is_looked_at_as_well(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(r'{"prompt": "\ud83d\ude00", "completion": "\\ud83d"}')
    assert list(DataFile.open(path).rows()) == [Pair("\U0001f600", r"\ud83d")]
    array = tmp_path / "a.json"
    array.write_text(r'[{"prompt": "\ud83d", "completion": "x"}]')
    with pytest.raises(BadData, match="row 1 of .*a.json cannot be used: .* half a surrogate pair"):
        DataFile.open(array)


def test_a_first_row_without_a_value_is_not_called_an_unknown_form(tmp_path):
    path = write(tmp_path / "a.jsonl", {"prompt": "Hull?", "completion": None}, GOOD)
    with pytest.raises(BadData, match="line 1 of .* cannot be used: 'completion' has no value"):
        DataFile.open(path)
    assert len(list(DataFile.open(path, skip_bad=True).rows())) == 1


def test_a_line_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b'\n{"prompt": "H\xfcll?", "completion": "x"}\n')
    with pytest.raises(BadData, match="line 2 of .* it is not UTF-8"):
        list(DataFile.open(path).rows())
    (tmp_path / "a.csv").write_bytes(b"prompt,completion\nH\xfcll?,x\n")
    with pytest.raises(BadData, match="line 2 of .*not UTF-8"):
        list(DataFile.open(tmp_path / "a.csv").rows())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b"\n \n", "is empty"),
        ("a.jsonl", b"\x7fELF\0\0\0", "is a binary file"),
        ("a.parquet", b"prompt,completion\n", "is not a Parquet file"),
        ("b.parquet", b"PAR1 and no more", "cannot read"),
        ("a.json", b'[{"text": "a"}, {"te', "cannot read .* after row 1"),
        ("b.json", b'[{"text": "a"}', "its array has no end"),
        ("a.csv", b'text\n"open\n', "line 2 of .* cannot be read"),
        ("b.csv", b"prompt,completion\na,b\nc\n", "line 3 of .* has not the 2 columns"),
        ("a.jsonl.gz", b"\x1f\x8b\x08", "is compressed: it begins as gzip writes it"),
        ("a.zip", b"PK\x03\x04\0", "is compressed: it begins as zip writes it"),
        ("w.jsonl", '{"text": "a"}'.encode("utf-16"), "it is UTF-16[\\s\\S]*save it as UTF-8"),
        ("h.csv", b"prompt,completion\n", "has no row that can be used: it holds none"),
        ("t.csv", b"prompt,prompt,completion\na,b,c\n", "its header names 'prompt' twice"),
        ("u.csv", b"Prompt, completion\na,b\n", "--columns 'prompt=Prompt,completion= completion'"),
        (
            "n.jsonl",
            b'{"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}',
            "begins with an answer of the assistant, and nothing asks for it",
        ),
        ("c.jsonl", b'{"question": "a"}\n', "its columns are question; the forms are"),
        ("d.jsonl", b'{"messages": [{"role": "user", "content": "a"}]}\n', "nothing to learn"),
        ("e.jsonl", b'{"messages": [{"role": "captain", "content": "a"}]}\n', "role 'captain'"),
        ("f.jsonl", b'{"chosen": "a", "rejected": "a", "prompt": "b"}\n', "are the same"),
    ],
)
def test_a_file_that_is_no_data_is_refused(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadData, match=message):
        list(DataFile.open(tmp_path / name).rows())


def test_a_file_of_broken_lines_alone_names_the_first(tmp_path):
    (tmp_path / "a.jsonl").write_text("x\ny\n")
    with pytest.raises(BadData, match=r"has no row that can be used: line 1: it is not JSON"):
        DataFile.open(tmp_path / "a.jsonl", skip_bad=True)


@pytest.mark.parametrize("sign", [";", "\t", ","])
def test_a_table_is_parted_as_its_header_is(sign, tmp_path):
    text = f'\ufeffprompt{sign}completion\r\n"a ""b"", c{sign}\nd"{sign}e\r\n'
    (tmp_path / "a.csv").write_bytes(text.encode())
    row = Pair(f'a "b", c{sign}\nd', "e")
    assert list(DataFile.open(tmp_path / "a.csv").rows()) == [row]


def test_a_row_of_a_parquet_file_is_called_a_row(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"prompt": [{"text": "a"}], "completion": ["b"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(BadData, match="row 1 of .*: 'prompt' is an object, not a text"):
        list(DataFile.open(tmp_path / "a.parquet").rows())


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(BadData, match="the path does not exist"):
        DataFile.open(tmp_path / "none.jsonl")
    with pytest.raises(BadData, match="data is a file"):
        DataFile.open(tmp_path)


def test_files_of_two_families_are_refused_together(tmp_path):
    one = write(tmp_path / "a.jsonl", GOOD)
    two = write(tmp_path / "b.jsonl", FORMS["preferences"][0])
    with pytest.raises(
        BadData, match="trained on together: .*a.jsonl holds answers and .*b.jsonl holds"
    ):
        open_data([one, two])


@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_memory_does_not_grow_with_the_file(kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    line = json.dumps({"prompt": "Hull?", "completion": "x" * 2000})
    with path.open("w") as file:
        file.write("[" if kind == "json" else "")
        file.writelines(
            line + (",\n" if kind == "json" and i < 9999 else "\n") for i in range(10_000)
        )
        file.write("]" if kind == "json" else "")
    tracemalloc.start()
    try:
        assert sum(1 for _ in DataFile.open(path).rows()) == 10_000
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("value", "kind"),
    [(b"hull", "bytes"), (datetime(2026, 1, 1, tzinfo=UTC), "datetime"), (Decimal(3), "Decimal")],
)
def test_what_parquet_has_and_json_has_not_is_named_by_its_type(tmp_path, value, kind):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"prompt": [value], "completion": ["x"]}), path)
    message = f"row 1 of .* cannot be used: 'prompt' is of the type {kind}, not a text"
    with pytest.raises(BadData, match=message):
        list(open_data([path])[0].rows())

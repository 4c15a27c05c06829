"""Tables of text: columns of numbers, labels by name, headers, and refusals."""

import numpy as np
import pytest
import torch

from flowmaps.data import as_data, csv_files, load
from flowmaps.data.csv_files import write_csv
from flowmaps.data.load import load_again


def table(tmp_path, text, name="a.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def rows(data):
    """All rows with their labels, in order, with the numbers of the file."""
    data = as_data(data, standardise=False)
    batches = data.draw(data.size), data.held_out(10**6)
    label = [batch.label.tolist() if batch.label is not None else [None] * len(batch.x0) for batch in batches]
    return sorted(zip(torch.cat([batch.x0 for batch in batches]).tolist(), sum(label, []), strict=True))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a,b\n1,2\n3,4.5\n5,-6e0\n", "a.csv"),
        ("1,2\n3,4.5\n5,-6\n", "a.CSV"),
        ("\ufeffa; b\r\n1; 2\r\n\r\n3; 4.5\r\n5; -6\r\n", "a.csv"),
        ("a\tb\n1\t2\n3\t4.5\n5\t-6", "a.tsv"),
        ("# a,b\n1,2\n3,4.5\n5,-6\n", "a.csv"),
        ("1.0 2\n3.0  4.5\n5 -6\n", "a.csv"),
        ('"a","b"\n"1","2"\n"3","4.5"\n"5","-6"\n', "a.csv"),
        ("x,y\n1,2\n3,4.5\n5,-6\n", "a.csv"),
    ],
)
def test_numbers_of_all_columns(tmp_path, text, name):
    data = load(table(tmp_path, text, name))
    assert (data.kind, data.shape, data.classes) == ("points", (2,), None)
    assert rows(data) == [([1, 2], None), ([3, 4.5], None), ([5, -6], None)]
    assert torch.equal(as_data(str(tmp_path / name)).draw(2).x0, data.draw(2).x0)


@pytest.mark.parametrize(
    ("column", "cells", "numbers", "names"),
    [
        ("label", "bca", [1, 2, 0], ("a", "b", "c")),
        ("Class", "201", [2, 0, 1], None),
        ("y", ["True", "False", "True"], [1, 0, 1], ("False", "True")),
        ("target", ["10", "2", "10"], [10, 2, 10], None),
    ],
)
def test_a_column_of_labels_by_its_name(tmp_path, column, cells, numbers, names):
    text = f"u,{column},v\n" + "".join(f"{at},{cell},{at + 10}\n" for at, cell in enumerate(cells))
    for options in ({}, {"labels": column}, {"labels": True}):
        data = load(table(tmp_path, text), **options)
        assert data.class_names == names and data.classes == (len(names) if names else max(numbers) + 1)
        assert rows(data) == [([at, at + 10], number) for at, number in enumerate(numbers)]
    assert data.recipe["columns"] == ["u", "v"] and data.recipe["labels"] == column
    again = load_again(data.recipe, "config.json")
    assert rows(again) == rows(data) and again.recipe == data.recipe


def test_columns_are_chosen_by_name_or_number(tmp_path):
    path = table(tmp_path, "a,name,b,c\n1,p,2,0\n3,q,4,1\n")
    assert rows(load(path, columns=["b", "a"])) == [([2, 1], None), ([4, 3], None)]
    assert rows(load(path, columns=["b"], labels="name")) == [([2], 0), ([4], 1)]
    assert rows(load(path, columns=["b"], labels="c")) == [([2], 0), ([4], 1)]
    named = load(path, columns=["b"], labels="name", class_names=["q", "r", "p"])
    assert rows(named) == [([2], 2), ([4], 0)] and named.classes == 3
    with pytest.raises(ValueError, match="cannot be matched with the classes of class_names: p"):
        load(path, columns=["b"], labels="name", class_names=["q", "r"])
    for text in ("b,a", "b, a", "[b,a]", "(b, a)", "['b', 'a']"):  # as a shell passes them
        assert rows(load(path, columns=text)) == [([2, 1], None), ([4, 3], None)]
    assert rows(load(path, columns="b")) == [([2], None), ([4], None)]
    with pytest.raises(ValueError, match='has no column "d", it has a, name, b, c'):
        load(path, columns="b,d")
    comma = table(tmp_path, '"a,b",c\n1,2\n3,4\n', "comma.csv")
    assert rows(load(comma, columns="a,b")) == [([1], None), ([3], None)]
    plain = table(tmp_path, "1,2,0\n3,4,1\n", "plain.csv")
    assert rows(load(plain, columns=[0, 1], labels=2)) == rows(load(plain, columns=["0", "1"], labels="2"))
    assert rows(load(plain, columns=1)) == [([2], None), ([4], None)]
    bare = table(tmp_path, "1,2,cat\n3,4,dog\n", "bare.csv")
    assert rows(load(bare, header=False, labels="2")) == [([1, 2], 0), ([3, 4], 1)]
    years = table(tmp_path, "2019,2020\n3,4\n5,6\n", "years.csv")
    assert load(years, header=True).recipe["columns"] == ["2019", "2020"]


def test_real_numbers_with_the_name_of_labels_are_data(tmp_path):
    path = table(tmp_path, "a,target,b\n1,0.5,2\n3,1,4\n")
    assert rows(load(path)) == [([1, 0.5, 2], None), ([3, 1, 4], None)]
    with pytest.raises(ValueError, match="labels of a.csv must be whole numbers; 1 are not"):
        load(path, labels="target")


def test_a_column_that_numbers_the_rows_is_left_out(tmp_path):
    with pytest.warns(UserWarning, match='the first column of .*, "", numbers the rows and is left out'):
        assert rows(load(table(tmp_path, ",a\n0,5\n1,6\n2,9\n"))) == [([5], None), ([6], None), ([9], None)]
    assert load(table(tmp_path, "index,a\n7,5\n1,6\n2,9\n")).shape == (2,)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,2\n3\n", {}, "line 3 of .* has 1 cells, and the first has 2"),
        ("a,b\n1,2\n3,\n", {}, 'line 3 of .* has no number in column "b", the cell is empty'),
        ("a,b\n1,2\n3,x\n", {}, 'no number in column "b" but \'x\': pass labels="b"'),
        ("a;b\n1,5;2\n", {}, "numbers have a decimal point"),
        ("a,b\n1,nan\n2,3\n", {}, "must be finite, and of 4 values 1 are NaN"),
        ("a,b\n1,2\n", {"columns": ["c"]}, 'has no column "c", it has a, b'),
        ("a,b\n1,2\n", {"labels": "c"}, 'has no column "c", it has a, b'),
        ("a,b\n1,2\n", {"labels": True}, "labels=True, and .* has no column label"),
        ("a,label\n1,p\n2,\n", {}, "are texts, and some are missing: the first in row 1"),
        ("a,a\n1,2\n", {}, "several columns of one name: a"),
        ("a,2\n1,2\n", {}, "holds numbers and texts .* pass header=True"),
        ("a,b\n", {}, "holds no numbers in a, b"),
        ("", {}, "holds no rows"),
        ("a,b\n1,2\n", {"delimiter": "::"}, "a delimiter is one character"),
    ],
)
def test_tables_that_are_refused(tmp_path, text, options, message):
    with pytest.raises(ValueError, match=message):
        load(table(tmp_path, text), **options)


def test_files_that_are_no_tables(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match="cannot be read as a table of text in UTF-8"):
        load(tmp_path / "a.csv")
    path = table(tmp_path, "1,2\n" * 100)
    monkeypatch.setattr(csv_files, "IN_MEMORY", 100)
    with pytest.raises(ValueError, match="save its numbers as .npy"):
        load(path)


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_table_that_was_written_has_the_same_numbers(tmp_path, suffix):
    x = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    path = tmp_path / f"a.{suffix}"
    write_csv(path, x, ["a", "b, c", "d"], {"label": [f"name {at % 2}" for at in range(7)]})
    data = load(path)
    assert data.recipe["columns"] == ["a", "b, c", "d"] and data.class_names == ("name 0", "name 1")
    assert [row for row, _ in rows(data)] == sorted(x.tolist())

"""Numbers and categories in one table: one-hot blocks, units, links, and tables of samples with names."""

import json

import pytest
import torch

import flowmaps as fm
from flowmaps.data import Columns, as_data, load
from flowmaps.data.csv_files import write_csv
from flowmaps.data.load import load_again
from flowmaps.experiments.run_data import given_data, run_data
from flowmaps.experiments.sample_files import write
from flowmaps.serialise import build, describe

TEXT = "height,kind,weight,size\n" + "".join(
    f"{150 + at},{('iris', 'rose', 'iris')[at % 3]},{1000 - 3 * at},{at % 4 + 9}\n" for at in range(30)
)
FLOWERS = Columns(("height", "weight"), (("kind", ("iris", "rose")), ("size", ("9", "10", "11", "12"))))


def table(tmp_path, text=TEXT, name="a.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_a_row_holds_numbers_and_one_hot_blocks(tmp_path):
    data = load(table(tmp_path), categories="size")
    assert (data.kind, data.shape, data.columns) == ("vectors", (8,), FLOWERS)
    x = torch.cat([data.draw(data.size).x0, data.held_out(10).x0])
    assert (
        bool(((x[:, 2:] == 0) | (x[:, 2:] == 1)).all()) and x[:, 2:4].sum(1).eq(1).all() and x[:, 4:].sum(1).eq(1).all()
    )
    assert data.units.mean[2:] == (0,) * 6 and data.units.std[2:] == (1,) * 6
    torch.testing.assert_close(data.draw(data.size).x0[:, :2].mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    again = load_again(json.loads(json.dumps(data.recipe)), "config.json")
    assert again.columns == data.columns and torch.equal(again.draw(4).x0, as_data(again).draw(4).x0)


def test_a_table_that_is_written_has_the_same_rows(tmp_path):
    """All rows through the units, the names and the file: exact in float32, whose numbers are written in full."""
    data = load(table(tmp_path), categories="size")
    x = data.in_units(data.draw(data.size).x0)
    about = {"data": {"kind": "vectors", "shape": [8], "recipe": data.recipe, "columns": describe(data.columns)}}
    soft = torch.cat([x[:, :2], 0.6 * x[:, 2:] + 0.05], 1)  # each block counts as its largest entry
    write(tmp_path / "b.csv", soft, json.loads(json.dumps(about)))
    assert (tmp_path / "b.csv").read_text().startswith("height,weight,kind,size\n")
    found = load(tmp_path / "b.csv", categories=dict(FLOWERS.categories), standardise=False)
    rows = torch.cat([found.draw(found.size).x0, found.held_out(10).x0])
    assert sorted(rows.tolist()) == sorted(x.tolist())
    whole = {line.rstrip() for line in TEXT.splitlines()[1:]}
    numbers, names = data.columns.decode(x)
    read = zip(numbers.tolist(), names["kind"], names["size"], strict=True)
    assert all(f"{h:.0f},{kind},{w:.0f},{size}" in whole for (h, w), kind, size in read)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,p\n2,p\n", {}, "column \"b\" of .* holds 'p' in every row"),
        ("a,b\n1,p\n2,q\n", {}, "2 different values in 2 rows, too many for categories, so it may be an identifier"),
        ("a,b\n1,p\n2,\n3,q\n", {}, 'line 3 of .* has no category in column "b", the cell is empty'),
        ("a,b\n1,p\n2,7\n3,q\n", {}, "holds numbers and texts, as '7' and 'p': pass categories=\"b\""),
        ("a,b\n1,p\n2,p\n3,r\n", {"categories": {"b": ["p", "q"]}}, "holds 'r', none of its 2 categories p, q"),
        ("a,b\n1,p\n2,p\n3,r\n", {"categories": {"b": ["p"]}}, "needs two or more different categories"),
        ("a,b\n1,p\n2,p\n3,r\n", {"categories": "b", "labels": "b"}, "cannot hold both the labels and categories"),
        ("a,b\n1,p\n2,p\n3,r\n", {"categories": "c"}, 'has no column "c", it has a, b'),
    ],
)
def test_columns_that_are_refused(tmp_path, text, options, message):
    with pytest.raises(ValueError, match=message):
        load(table(tmp_path, text), **options)


def test_columns_of_categories_alone_beside_labels_and_an_index(tmp_path):
    data = load(table(tmp_path, "a,label,b\np,0,u\nq,1,v\np,0,u\n"))
    assert data.shape == (4,) and data.classes == 2 and data.columns.numbers == ()
    assert load_again(data.recipe, "config.json").columns == data.columns
    with pytest.warns(UserWarning, match="numbers the rows"):
        assert load(table(tmp_path, ",b\n0,u\n1,v\n2,u\n", "c.csv")).shape == (2,)


def test_a_mixed_link_keeps_numbers_and_fields_in_the_hull():
    link = fm.links.Mixed(2, (3, 2))
    x = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.cat([x[:, :2], x[:, 2:5].softmax(1), x[:, 5:].softmax(1)], 1)
    assert torch.equal(link(x), expected)
    output = fm.Endpoint(link=link)
    assert build(json.loads(json.dumps(describe(output)))) == output and not hasattr(link, "logits")
    with pytest.raises(ValueError, match="takes rows of 7 entries"):
        link(x[:, :6])
    for wrong in ((1, ()), (1, (1,)), (-1, (2,))):
        with pytest.raises(ValueError):
            fm.links.Mixed(*wrong)


def test_a_run_samples_a_table_with_names(tmp_path):
    """From the file to a table of samples: valid names, and numbers in the units of the file."""
    path = table(tmp_path, TEXT + TEXT.partition("\n")[2] * 4)
    run = fm.experiments.train(
        str(path), steps=40, batch_size=32, width=16, depth=1, out=tmp_path / "run", data_args={"categories": "size"},
        device="cpu",
    )  # fmt: skip
    assert run_data(tmp_path / "run").columns == FLOWERS, run
    flow = fm.load(tmp_path / "run")
    assert flow.output.link == fm.links.Mixed(2, (2, 4))
    fm.experiments.sample(tmp_path / "run", n=64, out=tmp_path / "s.csv", device="cpu")
    found = load(tmp_path / "s.csv", categories=dict(FLOWERS.categories), standardise=False)  # refuses other names
    x = torch.cat([found.draw(found.size).x0, found.held_out(100).x0])
    assert len(x) == 64 and 100 < float(x[:, 0].mean()) < 230 and 800 < float(x[:, 1].mean()) < 1100
    other = table(tmp_path, "kind,size,height,weight\niris,9,160,900\nrose,9,170,900\n", "other.csv")
    assert given_data(tmp_path / "run", str(other)).columns == FLOWERS
    with pytest.raises(ValueError, match="differ from the ones of"):
        given_data(tmp_path / "run", load(path, categories={"size": ["9", "10", "11", "12"], "kind": ["iris", "rose"]}))
    write_csv(tmp_path / "new.csv", x[:2, :2].numpy(), ["height", "weight"], {"kind": ["iris", "lily"], "size": [9, 9]})
    with pytest.raises(ValueError, match="holds 'lily', none of"):
        given_data(tmp_path / "run", str(tmp_path / "new.csv"))
    with pytest.raises(ValueError, match="categories, which have no density"):
        fm.experiments.likelihood(tmp_path / "run", device="cpu")
    with pytest.raises(ValueError, match="cross-entropies of tokens, and rows of a.csv hold numbers and categories"):
        fm.experiments.train(str(path), method="dfm_psd", steps=1, out=tmp_path / "other", device="cpu")

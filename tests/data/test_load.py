"""`load`: names, paths and options that are wrong say what would be right."""

import pytest

from flowmaps.data import load


def test_unknown_names_get_the_closest():
    with pytest.raises(ValueError, match=r'unknown data set "chekerboard" \(did you mean checkerboard\?\); known are'):
        load("chekerboard")
    with pytest.raises(
        ValueError, match='unknown data set "qqq"; known are checkerboard, .*digits, .*series, a folder of images'
    ):
        load("qqq")


@pytest.mark.parametrize("path", ["./digits", "images/cats", "a.npy", "/no/such/folder"])
def test_paths_that_are_not_there(path):
    with pytest.raises(
        FileNotFoundError, match=f'no file or folder {path}; a Hugging Face data set is written "hf:NAME"'
    ):
        load(path)


def test_options_that_a_data_set_does_not_take(tmp_path):
    with pytest.raises(TypeError, match='digits takes no option "size"; it takes none'):
        load("digits", size=8)
    with pytest.raises(TypeError, match=r'spirals takes no option "arm" \(did you mean arms\?\); it takes arms, turns'):
        load("spirals", arm=3)
    with pytest.raises(TypeError, match='takes no option "path"; it takes size, mode, labels'):
        load(tmp_path, path="elsewhere")


def test_a_recipe_loads_the_same_data():
    data = load("spirals", arms=3)
    assert data.recipe == {"name_or_path": "spirals", "arms": 3}
    assert load(**data.recipe).draw(3).x0.equal(data.draw(3).x0)


@pytest.mark.parametrize("name", ["digits", "series"])
def test_a_folder_with_the_name_of_a_data_set_is_announced(tmp_path, monkeypatch, name, recwarn):
    monkeypatch.chdir(tmp_path)
    load(name)
    assert not recwarn
    (tmp_path / name).mkdir()
    with pytest.warns(UserWarning, match=f"there is a {name} here too: write ./{name}"):
        assert load(name).name == name
    with pytest.raises(ValueError, match="image"):
        load(f"./{name}")

"""Points on manifolds: columns, units, copies, splits by distinct points, reading again, refusals."""

import gzip
import math
import warnings

import pytest
import torch

import flowmaps as fm
from flowmaps.data import Angles, LatitudeLongitude, Quaternions
from flowmaps.data.load import load, load_again
from flowmaps.runs.contents import contents
from flowmaps.serialise import build, describe

PLACES = [(52.5, 13.4), (-33.9, 151.2), (0.0, 0.0), (90.0, 0.0), (35.7, 139.7), (-54.8, -68.3)]
VECTORS = [
    [math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)]
    for lat, lon in (map(math.radians, place) for place in PLACES)
]


def rows_of(data):
    """All rows, training and held out, in float64."""
    held = [] if data.source.test is None else [data.held_out(10**6).x0]
    return torch.cat([data.draw(data.size).x0, *held]).double()


def same_points(data, expected):
    found = torch.tensor(sorted(rows_of(data).tolist()), dtype=torch.float64)
    expected = torch.tensor(sorted(torch.tensor(expected, dtype=torch.float64).tolist()), dtype=torch.float64)
    return found.shape == expected.shape and torch.allclose(found, expected, atol=1e-6)


def written(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a.csv", ["# from", "# a, b", "LATITUDE,LONGITUDE", *(f"{lat},{lon}" for lat, lon in PLACES)]),
        ("b.csv", ["id,lon,lat,depth", *(f"a{at},{lon},{lat},9" for at, (lat, lon) in enumerate(PLACES))]),
        ("c.csv", ["# fires", *(f"{lat},{lon}" for lat, lon in PLACES)]),
        ("d.txt", ["# lon lat", *(f"{lon}  {lat}" for lat, lon in PLACES)]),
        ("e.tsv", ["here\tlatitude\tlongitude", "", *(f"x\t{lat}\t{lon % 360}" for lat, lon in PLACES)]),
    ],
)
def test_latitudes_and_longitudes_become_unit_vectors(tmp_path, name, lines):
    data = fm.data.sphere(written(tmp_path / name, lines))
    assert same_points(data, VECTORS)
    assert (data.manifold, data.kind, data.shape, data.units, data.notes) == (
        fm.manifolds.Sphere(2), "vectors", (3,), None, ()
    )  # fmt: skip
    assert data.coordinates.names[0].lower() in ("lat", "latitude")


def test_points_become_the_table_again_in_its_units(tmp_path):
    places = torch.tensor(PLACES, dtype=torch.float64)
    globe = LatitudeLongitude(("lat", "lon"))
    assert torch.allclose(globe.decode(globe.encode(places)), places, atol=1e-12)
    turn = math.pi / 180
    radians = LatitudeLongitude(radians=True)
    assert torch.allclose(radians.decode(radians.encode(places * turn)), places * turn, atol=1e-14)
    angles = Angles(("phi", "psi"))
    table = torch.tensor([[180.0, -179.5], [-180.0, 359.0], [0.0, 90.0]], dtype=torch.float64)
    expected = torch.tensor([[180.0, -179.5], [180.0, -1.0], [0.0, 90.0]], dtype=torch.float64)
    assert torch.allclose(angles.decode(angles.encode(table)), expected, atol=1e-12)
    for coordinates in (globe, radians, angles):
        assert build(describe(coordinates)) == coordinates
    with pytest.raises(ValueError, match="two columns|2 columns"):
        LatitudeLongitude(("lat",))
    with pytest.raises(ValueError, match=r"shape \(N, 3\), got \(3, 2\)"):
        globe.decode(table)


def test_angles_of_all_columns_of_numbers_are_wrapped(tmp_path):
    lines = ["1abc\tG\t-170.0\t190.0", "1e10\tC\t360.0\t-350.0", "2xyz\tA\t45.0\t180.0"]
    path = tmp_path / "torsions.tsv.gz"
    with gzip.open(path, "wt") as file:
        file.write("\n".join(lines))
    data = load(f"torus:{path}")
    turn = math.pi / 180
    assert same_points(data, [[-170 * turn, -170 * turn], [0.0, 10 * turn], [45 * turn, math.pi]])
    assert data.manifold == fm.manifolds.Torus(2) and data.coordinates == Angles(("angle_0", "angle_1"))
    named = fm.data.torus(written(tmp_path / "t.csv", ["index,phi,psi", "0,-170,190", "1,45,20"]))
    assert named.coordinates.names == ("phi", "psi")
    one = fm.data.torus(written(tmp_path / "u.csv", ["phi,year", "-170,1990", "45,2001"]), columns="phi")
    assert one.shape == (1,)
    with pytest.raises(ValueError, match="2 of the 2 rows of .* have an angle beyond a full turn, the first in line 2"):
        fm.data.torus(tmp_path / "u.csv")


def test_arrays_in_degrees_in_radians_and_in_ambient_coordinates():
    places = torch.tensor(PLACES, dtype=torch.float64)
    for data in (
        fm.data.sphere(PLACES),
        fm.data.sphere((places * math.pi / 180).numpy(), radians=True),
        fm.data.sphere(torch.tensor(VECTORS)),
        fm.data.on_manifold(VECTORS, fm.manifolds.Sphere(2)),
    ):
        assert same_points(data, VECTORS) and data.recipe is None
    assert fm.data.on_manifold(VECTORS, fm.manifolds.Euclidean(3)).coordinates is None
    wide = fm.data.torus(torch.linspace(-3.0, 3.0, 12).reshape(4, 3), radians=True)
    assert torch.allclose(rows_of(wide).sort(0).values, torch.linspace(-3.0, 3.0, 12).double().reshape(4, 3), atol=1e-6)


def test_rotations_are_unit_quaternions_of_one_sign(tmp_path):
    half = math.sqrt(0.5)
    rows = [(half, half, 0, 0), (-half, 0, half, 0), (0, 0, -1, 0), (1, 0, 0, 0), (0.6, 0, 0, -0.8)]
    expected = [(half, half, 0, 0), (half, 0, -half, 0), (0, 0, 1, 0), (1, 0, 0, 0), (0.6, 0, 0, -0.8)]
    lines = ["qx,qy,qz,qw", *(f"{x},{y},{z},{w}" for w, x, y, z in rows)]
    data = load(f"rotations:{written(tmp_path / 'poses.csv', lines)}")
    assert same_points(data, expected) and data.manifold == fm.manifolds.SO3() and data.notes == ()
    assert (
        data.coordinates == Quaternions(("qw", "qx", "qy", "qz"))
        and build(describe(data.coordinates)) == data.coordinates
    )
    assert torch.allclose(data.coordinates.decode(-torch.tensor(rows)), torch.tensor(expected))
    both = torch.tensor([*rows, *(-torch.tensor(rows)).tolist()])
    assert fm.data.rotations(both).notes == ("5 of the 10 rows of the array are copies of others: 5 distinct points",)
    with pytest.raises(ValueError, match=r"2 of the 5 rows .* further than 0.001 from SO3\(\), the first in row 1"):
        fm.data.rotations(torch.tensor(rows) * torch.tensor([1, 2, 1, 1, 0.9])[:, None])
    with pytest.raises(ValueError, match="names no quaternion w, x, y, z, but a, b, c, d"):
        fm.data.rotations(written(tmp_path / "q.csv", ["a,b,c,d", "1,0,0,0"]))
    with pytest.raises(ValueError, match="rotations have four columns"):
        fm.data.rotations(torch.zeros(3, 3))


def test_products_and_exact_laws_have_their_manifold():
    product = fm.manifolds.Product(fm.manifolds.Sphere(2), fm.manifolds.Torus(2))
    x = torch.cat([torch.tensor(VECTORS), torch.full((6, 1), 3.5), torch.linspace(-6, 6, 6)[:, None]], 1)
    data = fm.data.on_manifold(x, product)  # any number is an angle
    assert data.manifold == product and rows_of(data)[:, 3:].abs().max() <= math.pi + 1e-6
    law = fm.data.as_data(fm.exact.Zonal([1.0], [1.0], [20.0]))
    assert law.manifold == fm.manifolds.Sphere(2) and law.kind == "vectors"


def test_all_copies_of_a_point_are_on_one_side_and_are_counted(tmp_path):
    generator = torch.Generator().manual_seed(0)
    many = torch.randint(0, 40, (400,), generator=generator)
    distinct = torch.rand(40, 2, generator=generator, dtype=torch.float64) * torch.tensor([170.0, 350.0]) - 80
    lines = ["lat,lon", *(f"{lat:.6f},{lon:.6f}" for lat, lon in distinct[many].tolist())]
    path = written(tmp_path / "places.csv", lines)
    count = len(many.unique())
    data, other = fm.data.sphere(path), fm.data.sphere(path, seed=1)
    sides = [{tuple(row) for row in rows.tolist()} for rows in (data.draw(data.size).x0, data.held_out(400).x0)]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == count and len(sides[1]) == round(count / 5)
    assert data.size + len(data.held_out(400).x0) == 400
    assert data.notes == (f"{400 - count} of the 400 rows of {path} are copies of others: {count} distinct points",)
    assert {tuple(row) for row in other.held_out(400).x0.tolist()} != sides[1]
    assert fm.data.sphere(path, held_out=0).size == 400
    # longitudes of 180 and -180 degrees are one
    with pytest.raises(ValueError, match="the array has 2 rows and one distinct point"):
        fm.data.sphere([[10.0, 180.0], [10.0, -180.0]])


def test_a_file_is_read_again_with_the_same_columns_and_split(tmp_path):
    lines = ["a,b,c", *(f"{7 * at - 90},{at},{3 * at}" for at in range(25))]
    path = written(tmp_path / "p.csv", lines)
    first = load(f"sphere:{path}", columns="a, c", seed=3, held_out=0.4)
    again = load_again(first.recipe, "config.json: data.recipe")
    assert first.recipe["columns"] == ["a", "c"] and again.coordinates == first.coordinates
    assert torch.equal(again.held_out(9).x0, first.held_out(9).x0) and contents(again) == contents(first)


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (["lat,lon", "13.4,52.5", "151.2,-33.9", "100,3"], {},
         r"2 of the 3 rows of .* have a latitude outside of \[-90, 90\], the first in line 3 \(151.2, -33.9\): "
         "latitude and longitude may be exchanged"),
        (["lat,lon", "95,152.5", "1,2"], {}, "1 of the 2 rows of .* has a latitude outside .*: choose the columns"),
        (["lat,lon", "-5,400", "50,2"], {}, "has a longitude beyond a full turn, the first in line 2"),
        (["lat,lon", "0.9,0.2", "-0.6,2.6"], {}, "reach no further than 2.6, so they may be in radians, and degrees"),
        (["lat,lon", "0.9,6.2", "-0.6,2.6"], {}, "may be in radians"),
        (["lat,lon", "50,0.2", "-0.6,2.6"], {"radians": True}, r"latitude outside of \[-pi/2, pi/2\]"),
        (["lat,lon", "50,1", "nan,2", "3,"], {}, "2 of the 3 rows of .* hold NaN, infinite or missing numbers, the "
         "first in line 3"),
        (["lat,lon", "50,1", "3"], {}, "line 3 of .* has 1 cells, and the first has 2"),
        (["x,y", "50,1", "3,4"], {}, r"names no latitude and longitude, but x, y: pass columns=\[NAMES\]"),
        (["lat,lon", "50,1", "3,4"], {"columns": "lat, long"}, 'has no column "long", it has lat, lon'),
        (["a,1", "b,2"], {}, "too few columns of numbers for latitude and longitude: 1"),
        (["lat,lon", "50,1", "50,1"], {}, "2 rows and one distinct point"),
        (["lat,lon"], {}, "holds no rows"),
        (["# nothing"], {}, "holds no rows"),
        (["lat,lon", "50,1", "3,4"], {"held_out": 1.5}, "held_out"),
    ],
)  # fmt: skip
def test_wrong_tables_of_the_globe_are_refused_in_one_sentence(tmp_path, lines, options, message):
    with pytest.raises(ValueError, match=message):
        fm.data.sphere(written(tmp_path / "p.csv", lines), **options)


def test_small_angles_are_taken_if_their_unit_is_given():
    small = torch.tensor([[0.9, 0.2], [-0.6, 2.6]])
    assert same_points(fm.data.sphere(small, radians=False), LatitudeLongitude().encode(small.double()).tolist())
    assert same_points(fm.data.torus(small, radians=True), small.tolist())
    with pytest.raises(ValueError, match="reach no further than 2.6"):
        fm.data.torus(small)


def test_points_near_a_manifold_are_projected_and_counted_and_others_are_refused():
    near = torch.tensor(VECTORS, dtype=torch.float64)
    near[2] *= 1.0005
    with pytest.warns(UserWarning, match=r"1 of the 6 rows of the array are up to 0.0005 off Sphere\(n=2\)"):
        data = fm.data.sphere(near)
    assert same_points(data, VECTORS) and data.notes[0].startswith("1 of the 6 rows")
    near[4] *= 1.002
    with pytest.raises(ValueError, match=r"1 of the 6 rows of the array has points .* from Sphere\(n=2\), .* row 4 "):
        fm.data.sphere(near)
    near[3] = math.nan
    with pytest.raises(ValueError, match="1 of the 6 rows of the array holds NaN, .* the first in row 3"):
        fm.data.on_manifold(near, fm.manifolds.Sphere(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fm.data.sphere(torch.tensor(VECTORS))  # float32: rounding is no reason for a message


def test_wrong_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two columns, latitude and longitude, and the array has 4"):
        fm.data.sphere(torch.rand(5, 4))
    with pytest.raises(ValueError, match=r"points on Sphere\(n=2\) have 3 coordinates, got rows of 2"):
        fm.data.on_manifold(PLACES, fm.manifolds.Sphere(2))
    with pytest.raises(TypeError, match="a manifold is an object such as"):
        fm.data.on_manifold(VECTORS, "sphere")
    with pytest.raises(TypeError, match="path of a file or an array"):
        fm.data.sphere(object())
    with pytest.raises(ValueError, match="`radians` is for angles"):
        fm.data.sphere(VECTORS, radians=True)
    with pytest.raises(ValueError, match="columns are chosen in a file"):
        fm.data.torus(PLACES, columns=[0])
    with pytest.raises(FileNotFoundError):
        load(f"sphere:{tmp_path / 'none.csv'}")
    path = written(tmp_path / "p.csv", ["lat,lon", "50,1", "3,4"])
    with pytest.raises(ValueError, match="which are not standardised"):
        load(f"sphere:{path}", standardise=True)
    with pytest.raises(TypeError, match='takes no option "colums"'):
        load(f"sphere:{path}", colums="a")

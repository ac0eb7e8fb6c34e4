from __future__ import annotations

import base64

import pytest

from aenet_ray.errors import ExportError
from aenet_ray.export import read_ascii, read_binary, write_ascii, write_binary


@pytest.mark.parametrize("species", ["Ti", "O"])
def test_golden_bytes_are_reproduced(golden, golden_potentials, tmp_path, species):
    path = write_binary(golden_potentials[species], tmp_path / "a.nn")
    assert path.read_bytes() == base64.b64decode(golden["files_binary_base64"][f"demo.{species}.nn"])


@pytest.mark.parametrize("n_species", [1, 3, 5])
def test_binary_and_ascii_say_the_same(make_potential, same_fields, tmp_path, n_species):
    potential = make_potential(n_species)
    binary = read_binary(write_binary(potential, tmp_path / "a"))
    same_fields(binary, read_ascii(write_ascii(potential, tmp_path / "b")))
    assert write_binary(binary, tmp_path / "c").read_bytes() == (tmp_path / "a").read_bytes()


def test_longer_angular_cutoff_is_refused(make_potential, tmp_path):
    with pytest.raises(ExportError, match="longer than the radial one"):
        write_binary(make_potential(rad_cutoff=3.0, ang_cutoff=3.5), tmp_path / "a")


def test_every_truncation_is_noticed(make_potential, tmp_path):
    data = write_binary(make_potential(), tmp_path / "a").read_bytes()
    for n in [0, 2, 4, 11, *range(12, len(data) - 1, 97), len(data) - 1]:
        (tmp_path / "b").write_bytes(data[:n])
        with pytest.raises(ExportError, match=r"record \d+.*(truncated|expected 36 records)"):
            read_binary(tmp_path / "b")


def test_damaged_or_foreign_files_are_refused(make_potential, tmp_path):
    path = write_binary(make_potential(), tmp_path / "a")
    data = bytearray(path.read_bytes())
    data[4] = 1
    (tmp_path / "b").write_bytes(data)
    with pytest.raises(ExportError, match=r"record 1 \(number of layers\): expected 2 or more, found 1"):
        read_binary(tmp_path / "b")
    data[4] = 9
    (tmp_path / "b").write_bytes(data)
    with pytest.raises(ExportError, match=r"record 5 \(nodes per layer\): expected 36 bytes, found 16"):
        read_binary(tmp_path / "b")
    ascii_file = write_ascii(make_potential(), tmp_path / "c")
    with pytest.raises(ExportError, match="expected a Fortran unformatted file"):
        read_binary(ascii_file)
    with pytest.raises(ExportError, match="line 1: expected 1 integer"):
        read_ascii(path)

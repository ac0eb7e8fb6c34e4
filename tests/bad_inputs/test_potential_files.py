"""Files of ænet that cannot be read, and exports that would be of another potential: refused, with line or record."""

# ruff: noqa: E501 - rows of a table

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from potentials import random_potential

from aenet_ray import TorchANNPotential
from aenet_ray.errors import ExportError

Edit = Callable[[list[str]], None]


def text(edit: Edit) -> Callable[[Path], object]:
    """An ASCII potential with lines changed."""

    def read(tmp: Path) -> object:
        paths = random_potential().to_aenet_ascii(tmp)
        lines = paths["Ti"].read_text().splitlines()
        edit(lines)
        paths["Ti"].write_text("\n".join(lines))
        return TorchANNPotential.from_aenet(paths)

    return read


def line(after: str, number: int, content: str) -> Edit:
    """Replaces the line ``number`` below the first one that is ``after``; after '' counts from the top."""

    def edit(lines: list[str]) -> None:
        start = lines.index(after) if after else -1
        lines[start + number] = content

    return edit


def binary(edit: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """A binary potential with bytes changed."""

    def read(tmp: Path) -> object:
        paths = random_potential().to_aenet_binary(tmp)
        paths["Ti"].write_bytes(edit(paths["Ti"].read_bytes()))
        return TorchANNPotential.from_aenet(paths)

    return read


def cut(n: int) -> Edit:
    return lambda lines: lines.__delitem__(slice(n, None))


def paths(make: Callable[[dict[str, Path]], object]) -> Callable[[Path], object]:
    return lambda tmp: TorchANNPotential.from_aenet(make(random_potential().to_aenet_ascii(tmp)))


def export(stats: object = None, **options: object) -> Callable[[Path], object]:
    return lambda tmp: random_potential().to_aenet_ascii(tmp, descriptor_stats=stats, **options)


def long_angular(tmp: Path) -> object:
    return random_potential(rad_cutoff=3.0, ang_cutoff=3.5).to_aenet_binary(tmp)


ROWS = [
    ("ascii cut in the head", text(cut(2)), ExportError, r"Ti.*line 2: expected 1 integer \(number of weights\), found the end of the file; it is truncated"),
    ("ascii cut in the weights", text(cut(15)), ExportError, r"line 15: expected 143 numbers \(weights\), \d+ so far, found the end"),
    ("ascii cut in the name", text(lambda lines: cut(lines.index("potential"))(lines)), ExportError, "expected the training-set name, found the end of the file; it is truncated"),
    ("ascii cut at the last line", text(lambda lines: lines.pop()), ExportError, "expected 3 numbers .lowest, highest and average energy.*truncated"),
    ("ascii one line more", text(lambda lines: lines.append("1.0")), ExportError, "expected the end of the file, found '1.0'"),
    ("ascii layers are text", text(line("", 1, "four")), ExportError, r"line 1: expected 1 integer \(number of layers\), found 'four'"),
    ("ascii one layer", text(line("", 1, "1")), ExportError, "line 1: expected the number of layers, 2 or more, found 1"),
    ("ascii layers negative", text(line("", 1, "-4")), ExportError, "2 or more, found -4"),
    ("ascii weights too many", text(line("", 3, "150")), ExportError, r"line 45: expected 150 numbers \(weights\), found 'aenet_ray'"),
    ("ascii nodes too few", text(line("", 5, "16 6 5")), ExportError, r"line 6: expected 4 integers \(nodes per layer\), found 6"),
    ("ascii output of two", text(line("", 5, "16 6 5 2")), ExportError, r"line 5: the first and last layer's size is \(16, 2\), expected \(16, 1\)"),
    ("ascii unknown activation", text(line("", 6, "1 9 0")), ExportError, r"line 6: unknown activation codes \[9\], expected 0 to 4"),
    ("ascii output not linear", text(line("", 6, "1 1 1")), ExportError, "output layer's activation is 'tanh', expected 'linear'"),
    ("ascii nan weight", text(line("", 9, "nan 1 1 1")), ExportError, r"line 9: expected 143 numbers \(weights\), found 'nan'"),
    ("ascii infinite weight", text(line("", 9, "inf 1 1 1")), ExportError, "line 9: .*found 'inf'"),
    ("ascii stars for a number", text(line("", 9, "******** 1 1 1")), ExportError, r"line 9: .*found '\*+'"),
    ("ascii other basis", text(lambda lines: line("Chebyshev", 0, "Behler2011")(lines)), ExportError, "the basis type is behler2011, expected chebyshev"),
    ("ascii other parameters", text(line("Chebyshev", 2, "3")), ExportError, r"line 71: expected 32 integers \(environment species\)"),
    ("ascii other features", text(line("Chebyshev", 1, "15")), ExportError, r"line 58: expected 15 integers \(function kinds\), found 16"),
    ("ascii foreign centre", text(line("aenet_ray", 1, "Fe")), ExportError, r"Fe: it is not among the descriptor's species \['Ti', 'O'\]"),
    ("binary cut in a mark", binary(lambda data: data[:3]), ExportError, r"line 1: expected 1 integer \(number of layers\)"),
    ("binary cut in a record", binary(lambda data: data[:400]), ExportError, r"Ti\.nn, record 9: its two length marks do not agree.*truncated"),
    ("binary cut between records", binary(lambda data: data[:12]), ExportError, r"record 2 \(size of the largest layer\): expected 36 records, found 1"),
    ("binary records too many", binary(lambda data: data + data[:12]), ExportError, "expected 36 records, found 37"),
    ("binary other length", binary(lambda data: data[:4] + b"\x07" + data[5:]), ExportError, r"record 5 \(nodes per layer\): expected 28 bytes, found 16"),
    ("binary big endian", binary(lambda data: data[3::-1] + data[4:]), ExportError, "big endian; expected little endian"),
    ("empty file", binary(lambda data: b""), ExportError, "found the end of the file; it is truncated"),
    ("torch file", binary(lambda data: b"PK\x03\x04" + data), ExportError, r"torch model file; read it with TorchANNPotential\.from_file"),
    ("hdf5 file", binary(lambda data: b"\x89HDF" + data), ExportError, "an HDF5 file"),
    ("compressed file", binary(lambda data: b"\x1f\x8b" + data), ExportError, "compressed; unpack it first"),
    ("file missing", paths(lambda p: [*p.values(), "missing.nn"]), FileNotFoundError, r"missing\.nn: no such potential file"),
    ("species missing", paths(lambda p: [p["O"]]), ExportError, "a potential for Ti, O, but there is no file of Ti; given are .*O"),
    ("species twice", paths(lambda p: [*p.values(), p["O"]]), ExportError, "the potential of O, as is .*expected one a species"),
    ("files under wrong names", paths(lambda p: {"Ti": p["O"], "O": p["Ti"]}), ExportError, "the potential of O, expected that of Ti"),
    ("no files", paths(lambda p: []), ExportError, "none given; expected one a species"),
    ("no paths", paths(lambda p: 3), ExportError, "int, expected paths, a mapping of species to paths, or a directory"),
    ("a directory among files", paths(lambda p: [*p.values(), p["O"].parent]), ExportError, "a directory, expected a potential file"),
    ("directory without files", lambda tmp: TorchANNPotential.from_aenet(tmp), ExportError, r"no \*\.nn\.ascii or \*\.nn files in this directory"),
    ("export long angular cutoff", long_angular, ExportError, "angular cutoff of 3.5 Å is longer than the radial one of 3.0"),
    ("export other averages", export({"avg": np.ones(16)}), ExportError, "avg of feature 0 is 1, the potential was trained with 0 .it takes raw features"),
    ("export other covariance", export({"cov": np.zeros(16)}), ExportError, "cov of feature 0 is 0, the potential was trained with 1"),
    ("export unknown statistics", export({"mean": np.ones(16)}), ExportError, "unknown keys mean; expected some of min, max, avg, cov"),
    ("export short statistics", export({"min": np.ones(3)}), ExportError, r"min has shape \(3,\), expected \(16,\)"),
    ("export no structures", export(structures=[]), ExportError, "structures: none given; leave the argument out"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "kind", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_refused(make, kind, message, tmp_path):
    with pytest.raises(kind, match=message):
        make(tmp_path)


def test_rows_are_distinct_and_many():
    assert len({row[0] for row in ROWS}) == len(ROWS) >= 40

"""XSF: the reference's parse, what it cannot do, and what must be refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structure_samples import DATA, RUTILE, crystal, water

from aenet_ray.errors import StructureError
from aenet_ray.structures.structure import Structure
from aenet_ray.structures.xsf import format_xsf, parse_xsf, read_xsf, write_xsf

GOLDEN = json.loads((DATA / "golden" / "xsf_parsing.json").read_text())["cases"]


@pytest.mark.parametrize("case", sorted(GOLDEN))
def test_golden(case: str) -> None:
    frames = parse_xsf(GOLDEN[case]["text"], case)
    assert len(frames) == len(GOLDEN[case]["frames"])
    for k, (found, expected) in enumerate(zip(frames, GOLDEN[case]["frames"], strict=True)):
        symbols = {"8": "O", "1": "H"}  # numeric species become symbols here
        assert found.species == [symbols.get(s, s) for s in expected["species"]]
        assert (found.energy, found.frame, found.source) == (expected["energy"], k, case)
        for name in ("positions", "forces", "cell", "pbc"):
            value = getattr(found, name)
            assert (None if value is None else value.tolist()) == expected[name], name


def test_an_energy_for_every_frame() -> None:
    frame = "# total energy = {} eV\nPRIMCOORD {}\n1 1\nH 0 0 {}\n"
    text = "ANIMSTEPS 3\nCRYSTAL\nPRIMVEC\n5 0 0\n0 5 0\n0 0 5\n" + "".join(
        frame.format(-k, k, k / 10) for k in (1, 2, 3)
    )
    frames = parse_xsf(text)
    assert [f.energy for f in frames] == [-1.0, -2.0, -3.0]
    assert all(np.array_equal(f.cell, np.eye(3) * 5) for f in frames)  # a cell given once holds for all


def test_molecules_in_several_frames() -> None:
    frames = parse_xsf("ANIMSTEPS 2\nATOMS 1\nH 0 0 0\nH 0 0 0.7\nATOMS 2\nH 0 0 0\nH 0 0 0.8\n")
    assert [f.positions[1, 2] for f in frames] == [0.7, 0.8]
    assert all(f.cell is None for f in frames)


def test_slabs_fortran_numbers_and_mixed_case_energy() -> None:
    text = "# Total Energy of it = -1.5D+01 eV\nSLAB\nPRIMVEC\n3 0 0\n0 3 0\n0 0 20\nPRIMCOORD\n1 1\n22 1.0D-01 0 0\n"
    (slab,) = parse_xsf(text)
    assert (slab.energy, slab.species, slab.positions[0, 0]) == (-15.0, ["Ti"], 0.1)
    assert slab.pbc is not None
    assert slab.pbc.tolist() == [True, True, False]


BAD = {
    "": "the file is empty",
    "hello\nworld": "no PRIMCOORD or ATOMS block",
    RUTILE.replace("-0.1 0.0 0.0\n", "\n"): "columns; expected species, x, y, z",
    RUTILE.replace("-0.1 0.0 0.0\n", "-0.1 0.0\n"): "atom lines of 6 and 7 columns",
    RUTILE.replace(
        "O 3.19283 3.19283 0.0 0.0 -0.2 -0.3\n", ""
    ): "frame 0, line 9: 3 atoms announced, 2 follow; truncated",
    RUTILE.replace("1.40117 1.40117", "1.40117 x"): r"frame 0, line 11: 'x' is not a number",
    RUTILE.replace("1.40117 1.40117", "1.40117 ******"): r"line 11: '\*\*\*\*\*\*' is not a number",
    RUTILE.replace("O 1.4", "Qq 1.4"): "unknown species 'Qq'",
    RUTILE.replace("eV", "Ry"): "total energy in 'Ry', expected eV",
    RUTILE.replace("-19517.09425849", "lots"): "total energy 'lots' is not a number",
    RUTILE.replace("3 1\n", "three 1\n"): "not followed by the number of atoms",
    RUTILE.replace("  0.0 0.0 2.959\n", ""): "lattice vectors of three numbers",
    RUTILE.replace("PRIMVEC", "CONVVEC"): "without lattice vectors",
    "# total energy = 1 eV\n# total energy = 2 eV\nATOMS\nH 0 0 0\n": "2 total energies for 1 frames",
    "ATOMS\n": "no atoms",
}


@pytest.mark.parametrize("text", BAD, ids=list(BAD.values()))
def test_bad_files_are_named(text: str) -> None:
    with pytest.raises(StructureError, match=BAD[text]) as caught:
        parse_xsf(text, "bad.xsf")
    assert str(caught.value).startswith("bad.xsf")


@pytest.mark.parametrize("structure", [crystal(stress=None), water(), water(energy=None, forces=None)])
def test_written_and_read(structure: Structure, tmp_path) -> None:
    write_xsf(structure, tmp_path / "a.xsf", comment="two\nlines")
    (again,) = read_xsf(tmp_path / "a.xsf")
    assert (again.species, again.energy) == (structure.species, structure.energy)
    for name in ("positions", "forces", "cell"):
        a, b = getattr(structure, name), getattr(again, name)
        assert (a is None and b is None) or np.allclose(a, b, rtol=0, atol=5.1e-9)


def test_periodicity_xsf_cannot_say() -> None:
    with pytest.raises(StructureError, match="Reorder the lattice vectors"):
        format_xsf(crystal(pbc=np.array([False, True, True])))


number = st.floats(-1e4, 1e4).map(lambda x: round(x, 6))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["H", "Ti", "Cl"]), st.tuples(*[number] * 6)), min_size=1, max_size=6), number
)
def test_any_structure_survives_the_file(atoms: list, energy: float) -> None:
    values = np.array([row for _, row in atoms])
    structure = Structure(values[:, :3], [s for s, _ in atoms], energy, values[:, 3:], np.eye(3) * 9)
    (again,) = parse_xsf(format_xsf(structure))
    assert again.species == structure.species
    for name in ("positions", "forces", "cell", "energy"):
        assert np.array_equal(getattr(again, name), getattr(structure, name)), name

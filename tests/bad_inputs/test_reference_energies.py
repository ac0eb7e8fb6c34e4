"""Samples, options and files of atomic energies that cannot be used: refused with what was found and what helps."""

# ruff: noqa: E501 - rows of a table

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aenet_ray import ReferenceEnergies, Structure, TorchTrainingConfig, iter_composition_energy_samples_from_files
from aenet_ray.errors import ConfigError, ReferenceEnergyError, ReferenceEnergyTypeError, StoreError, StructureError
from aenet_ray.reference_energies import read_energies
from aenet_ray.structures.ase_io import write_ase

TIO2, OXYGEN = ({"Ti": 1, "O": 2}, -2470.0), ({"O": 2}, -865.0)
GOOD = [TIO2, OXYGEN]
Value, Type = ReferenceEnergyError, ReferenceEnergyTypeError


def fit(samples: object = GOOD, **options: object) -> Callable[[Path], object]:
    return lambda tmp: ReferenceEnergies.from_regression(samples, **options)


def one(composition: object, energy: object = -1.0) -> Callable[[Path], object]:
    return fit([OXYGEN, (composition, energy)])


def compounds(given: object, samples: object = GOOD, **options: object) -> Callable[[Path], object]:
    return lambda tmp: ReferenceEnergies.from_reference_compounds(samples, reference_compounds=given, **options)


def sae(**options: object) -> Callable[[Path], object]:
    return lambda tmp: ReferenceEnergies.from_sae(GOOD, **options)


def yaml(text: str) -> Callable[[Path], object]:
    def read(tmp: Path) -> object:
        (tmp / "energies.yaml").write_text(text)
        return read_energies(tmp / "energies.yaml")

    return read


def file_without_energy(tmp: Path) -> object:
    write_ase([Structure([[0, 0, 0]], ["O"], -432.0), Structure([[0, 0, 0]], ["O"])], tmp / "a.extxyz")
    return list(iter_composition_energy_samples_from_files([tmp / "a.extxyz"]))


def no_store(tmp: Path) -> object:
    (tmp / "data.h5").write_bytes(b"nothing")
    return ReferenceEnergies.from_regression(tmp / "data.h5")


def frames(paths: object, **options: object) -> Callable[[Path], object]:
    return lambda tmp: list(iter_composition_energy_samples_from_files(paths, **options))


ROWS = [
    ("count negative", one({"Ti": -1, "O": 2}), Value, r"sample 1: -1 atoms of Ti, expected a whole number, 0 or more"),
    ("count fraction", one({"Ti": 1.5}), Value, r"sample 1: 1\.5 atoms of Ti"),
    ("count nan", one({"Ti": math.nan}), Value, "sample 1: nan atoms of Ti"),
    ("count infinite", one({"Ti": math.inf}), Value, "sample 1: inf atoms of Ti"),
    ("count bool", one({"Ti": True}), Type, "sample 1: True atoms of Ti, expected a whole number"),
    ("count numpy bool", one({"Ti": np.True_}), Type, "sample 1: .*True.* atoms of Ti"),
    ("count text", one({"Ti": "1"}), Type, "sample 1: '1' atoms of Ti"),
    ("count none", one({"Ti": None}), Type, "sample 1: None atoms of Ti"),
    ("no atoms", one({"Ti": 0, "O": 0}), Value, "sample 1: composition {'Ti': 0, 'O': 0} has no atoms"),
    ("empty composition", one({}), Value, "sample 1: composition {} has no atoms"),
    ("composition text", one("TiO2"), Type, "sample 1: .*expected a pair|composition 'TiO2', expected a mapping"),
    ("composition list", one([("Ti", 1)]), Type, r"composition \[\('Ti', 1\)\], expected a mapping"),
    ("species number", one({22: 1}), Type, "sample 1: species 22, expected a symbol"),
    ("species empty", one({"": 1}), Type, "sample 1: species '', expected a symbol"),
    ("energy nan", one({"Ti": 1}, math.nan), Value, "sample 1: the energy is nan, expected a finite number, eV"),
    ("energy infinite", one({"Ti": 1}, -math.inf), Value, "sample 1: the energy is -inf"),
    ("energy none", one({"Ti": 1}, None), Type, "sample 1: energy None, expected a number"),
    ("energy text", one({"Ti": 1}, "-1"), Type, "sample 1: energy '-1', expected a number"),
    ("energy bool", one({"Ti": 1}, True), Type, "sample 1: energy True"),
    ("energy list", one({"Ti": 1}, [1.0]), Type, r"sample 1: energy \[1\.0\]"),
    ("structure with nan", fit([Structure([[0, 0, 0]], ["O"], math.nan)]), Value, "<memory>: the energy is nan"),
    ("sample no pair", fit([TIO2, 3]), Type, r"sample 1: 3; expected a pair \(composition, energy\)"),
    ("sample triple", fit([({"Ti": 1}, 1.0, 2)]), Type, "sample 0: .*expected a pair"),
    ("samples number", fit(3), Type, "samples: int; expected pairs"),
    ("samples mapping", fit({"Ti": 1}), Type, "samples: dict; expected pairs"),
    ("samples none", fit(None), Type, "samples: NoneType"),
    ("samples empty", fit([]), Value, "samples: none with an energy"),
    ("file missing", fit(["missing.xsf"]), StructureError, r"missing\.xsf: no such file"),
    ("store missing", fit("missing.h5"), StoreError, r"missing\.h5: no such file"),
    ("store damaged", no_store, StoreError, r"data\.h5: not an HDF5 file"),
    ("rank", fit([TIO2]), Value, "rank 1, but 2 energies are wanted: all structures have O:Ti = 2:1.*Fix the energy of one of O, Ti"),
    ("rank after fixing", fit([({"Li": 1, "Ti": 1, "O": 2}, -1.0)], fixed_atomic_energies={"Li": -7.0}), Value, "O:Ti = 2:1"),
    ("fixed unknown", fit(fixed_atomic_energies={"Fe": -1.0}), Value, "fixed_atomic_energies: Fe is in none of 2 samples, which hold O, Ti"),
    ("fixed nan", fit(fixed_atomic_energies={"O": math.nan}), Value, r"fixed_atomic_energies\['O'\]: nan, expected a finite"),
    ("fixed text", fit(fixed_atomic_energies={"O": "-1"}), Type, r"fixed_atomic_energies\['O'\]: '-1', expected a number"),
    ("fixed bool", fit(fixed_atomic_energies={"O": True}), Type, r"fixed_atomic_energies\['O'\]: True"),
    ("fixed list", fit(fixed_atomic_energies=[-1.0]), Type, r"fixed_atomic_energies: \[-1\.0\], expected a mapping"),
    ("size and fraction", fit(subset_size=1, subset_fraction=0.5), Value, "subset_size=1 and subset_fraction=0.5: expected one"),
    ("size zero", fit(subset_size=0), Value, "subset_size: 0, expected a positive whole number"),
    ("size above", fit(subset_size=3), Value, "subset_size: 3 of 2 samples; expected at most 2"),
    ("size fraction", fit(subset_size=1.5), Type, r"subset_size: 1\.5, expected a positive whole number"),
    ("size bool", fit(subset_size=True), Type, "subset_size: True"),
    ("fraction zero", fit(subset_fraction=0.0), Value, r"subset_fraction: 0\.0, expected a number above 0, at most 1"),
    ("fraction above", fit(subset_fraction=1.1), Value, r"subset_fraction: 1\.1"),
    ("fraction nan", fit(subset_fraction=math.nan), Value, "subset_fraction: nan"),
    ("fraction text", fit(subset_fraction="half"), Type, "subset_fraction: 'half'"),
    ("fraction of a stream", fit(iter(GOOD), subset_fraction=0.5), Type, "subset_fraction needs samples of known number, found list_iterator; give a list"),
    ("fraction of paths", fit(["a.xsf", "b.xsf"], subset_fraction=0.5), Type, "subset_fraction needs samples of known number, found paths"),
    ("compounds empty", compounds([]), Value, r"reference_compounds: empty; expected formulas such as \['TiO2'"),
    ("compounds text", compounds("TiO2"), Type, "reference_compounds: 'TiO2', expected a list"),
    ("compounds twice", compounds(["TiO2", {"O": 2, "Ti": 1}]), Value, r"reference_compounds\[1\]: O2Ti was given before"),
    ("compound absent", compounds(["TiO2", "Ti2O4"]), Value, "reference compounds Ti2O4: no sample has exactly this number of atoms.*there, and how often: "),
    ("compound brackets", compounds(["Ti(OH)4"]), Value, r"compound 'Ti\(OH\)4': expected elements with whole numbers and no brackets"),
    ("compound lower case", compounds(["tio2"]), Value, "compound 'tio2': expected elements"),
    ("compound no element", compounds(["Xx2"]), Value, "compound 'Xx2': 'Xx' is no chemical symbol"),
    ("compound empty", compounds([""]), Value, "compound '': expected elements"),
    ("compound zero", compounds(["O0"]), Value, "compound 'O0': expected elements"),
    ("compound number", compounds([3]), Type, r"reference_compounds\[0\]: composition 3, expected a mapping"),
    ("compounds too few", compounds(["TiO2"]), Value, "reference compounds: .*rank 1, but 2 energies"),
    ("percentiles swapped", sae(percentiles=(98, 2)), Value, r"percentiles: \(98, 2\), expected a lower and an upper one"),
    ("percentiles above", sae(percentiles=(0, 101)), Value, r"percentiles: \(0, 101\)"),
    ("percentiles leave none", sae(), Value, "percentiles 2.0 and 98.0 of 2 residuals leave no sample strictly between"),
    ("frame without energy", file_without_energy, StructureError, r"a\.extxyz#1: has no energy to fit to.*energy_key"),
    ("files missing", frames(["missing.xsf"]), StructureError, r"missing\.xsf: no such file"),
    ("files missing, format known", frames("missing.dat", frmt="xsf"), StructureError, r"missing\.dat: no such file"),
    ("files unknown argument", frames([], energykey="E"), Type, "unknown argument 'energykey'; did you mean 'energy_key'"),
    ("energies file missing", lambda tmp: read_energies(tmp / "no.yaml"), ConfigError, r"no\.yaml: no such file of atomic energies; expected 'fit', a mapping, or"),
    ("energies file no yaml", yaml("a: [1"), ConfigError, "cannot be read as YAML"),
    ("energies file list", yaml("- 1\n- 2\n"), ConfigError, r"\[1, 2\]; expected a mapping of species to energies"),
    ("energies file empty", yaml(""), ConfigError, "None; expected a mapping"),
    ("energies file nan", yaml("Ti: .nan"), ConfigError, "the energy of Ti is nan, expected a finite number"),
    ("energies file text", yaml("Ti: minus one"), ConfigError, "the energy of Ti is 'minus one'"),
    ("energies file bool", yaml("Ti: yes"), ConfigError, "the energy of Ti is True"),
    ("energies file no element", yaml("Tx: -1.0"), ConfigError, "'Tx' is no chemical symbol and no atomic number"),
    ("energies file number", yaml("140: -1.0"), ConfigError, "140 is no chemical symbol"),
    ("energies file nobelium", yaml("No: -1.0"), ConfigError, "YAML reads No as false: put it in quotes"),
    ("energies file twice", yaml("Ti: -1.0\n22: -1.0\n"), ConfigError, "Ti is there twice"),
    ("config file missing", lambda tmp: TorchTrainingConfig(atomic_energies="no.yaml"), ConfigError, r"atomic_energies: no\.yaml: no such file"),
    ("config nearly fit", lambda tmp: TorchTrainingConfig(atomic_energies="Fit"), ConfigError, "Fit: no such file.*expected 'fit'"),
    ("config nan", lambda tmp: TorchTrainingConfig(atomic_energies={"Ti": math.nan}), ConfigError, r"atomic_energies\.Ti: .*finite.*nan"),
    ("config list", lambda tmp: TorchTrainingConfig(atomic_energies=[1.0]), ConfigError, r"atomic_energies.*\[1\.0\]"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "kind", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_refused(make, kind, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=message) as caught:
        make(tmp_path)
    assert isinstance(caught.value, ValueError | RuntimeError)
    assert isinstance(caught.value, TypeError) == (kind is Type)


def test_rows_are_distinct_and_many():
    assert len({row[0] for row in ROWS}) == len(ROWS) >= 70

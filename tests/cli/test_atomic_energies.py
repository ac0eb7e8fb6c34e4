"""``aenet-ray atomic-energies``: the three methods, the line to paste, the file, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from aenet_ray import ReferenceEnergies, Structure, StructureStore, TorchTrainingConfig
from aenet_ray.cli.main import main
from aenet_ray.structures.store import write_store

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "golden" / "reference_energies.json").read_text())


def structure(composition: dict[str, int], energy: float | None) -> Structure:
    species = [s for s, n in composition.items() for _ in range(n)]
    return Structure([[3.0 * k, 0.0, 0.0] for k in range(len(species))], species, energy)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    """The golden samples as a structure store."""
    path = tmp_path_factory.mktemp("store") / "data.h5"
    write_store([structure(c, e) for c, e in GOLDEN["samples"]], path)
    return str(path)


def pasted(output: str) -> dict[str, float]:
    """What the line to paste says to a training configuration."""
    values = yaml.safe_load(output[output.index("training:") : output.rindex("}") + 1])
    return TorchTrainingConfig(**values["training"]).atomic_energies


@pytest.mark.parametrize(
    ("options", "name", "said"),
    [
        ([], "regression", "least squares on 6 of 6 structures; rmse 0.1543 eV a structure; rank 2 of 2"),
        (["--fixed", "O=-432.5"], "regression_fixed_O", "rank 1 of 1"),
        (["--subset-size", "4", "--seed", "3"], "regression_subset", "least squares on 4 of 6 structures"),
        (["--compounds", "TiO2,O2"], "reference_compounds", "lowest of 6 structures for each of 2 compounds"),
    ],
)
def test_golden(store, capsys, options, name, said):
    assert main(["atomic-energies", store, *options]) == 0
    output = capsys.readouterr().out
    assert said in output
    assert pasted(output) == pytest.approx(GOLDEN[name]["atomic_energies"], rel=1e-9)
    assert "species" in output
    assert ("fixed" in output) == ("--fixed" in options)


def test_sae_of_several_files_and_the_file_that_a_run_reads(store, tmp_path, capsys):
    rng = np.random.default_rng(0)
    more = [structure({"Ti": 1 + k % 3, "O": 1 + k % 4}, -1000.0 * k + rng.normal()) for k in range(60)]
    write_store(more, tmp_path / "more.h5")
    files = [store, str(tmp_path / "more.h5")]
    assert main(["atomic-energies", files[0], "--sae", "-o", str(tmp_path / "energies.yaml"), files[1]]) == 0
    output = capsys.readouterr().out
    expected = ReferenceEnergies.from_sae(files)
    assert pasted(output) == pytest.approx(expected.atomic_energies, rel=1e-12)
    assert f"of {66} structures" in output
    written = yaml.safe_load((tmp_path / "energies.yaml").read_text())
    assert written["metadata"]["method"] == "sae"
    assert written["metadata"]["n_samples_used"] == expected.metadata["n_samples_used"]
    read = TorchTrainingConfig(atomic_energies=str(tmp_path / "energies.yaml")).atomic_energies
    assert read == expected.atomic_energies


def test_only_the_columns_of_species_and_energies_are_read(store, monkeypatch):
    wanted = []
    original = StructureStore._column

    def spy(self, path, start, stop):
        wanted.append(path)
        return original(self, path, start, stop)

    monkeypatch.setattr(StructureStore, "_column", spy)
    for options in ([], ["--sae"], ["--compounds", "TiO2,O2"]):
        assert main(["atomic-energies", store, *options]) == 0
    assert set(wanted) == {"atoms/numbers", "structures/energy"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fixed", "Ti"], r"--fixed 'Ti': expected SPECIES=ENERGY"),
        (["--fixed", "Ti=-1,Ti=-2"], "Ti was given before"),
        (["--fixed", "Fe=-1"], "fixed_atomic_energies: Fe is in none of 6 samples, which hold O, Ti"),
        (["--compounds", "TiO2"], "reference compounds: the compositions of 1 structures have rank 1, .* O:Ti = 2:1"),
        (["--compounds", "TiO2,Ti(OH)4"], r"compound 'Ti\(OH\)4': .* no brackets"),
        (["--compounds", "TiO2,Ti5O9"], "reference compounds Ti5O9: no sample has exactly this number of atoms"),
        (["--compounds", "TiO2,O2", "--subset-size", "3"], "--subset-size: has no meaning with --compounds"),
        (["--subset-size", "7"], "subset_size: 7 of 6 samples"),
        (["missing.h5"], "missing.h5: no such file"),
    ],
)
def test_bad_input_is_refused(store, capsys, options, message):
    import re

    assert main(["atomic-energies", store, *options]) == 2
    assert re.search(message, capsys.readouterr().err)

"""Model files: what goes in comes out, and nothing in them is ever executed."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from potentials import golden, golden_potential, golden_structure, random_potential

from aenet_ray.errors import CheckpointError, ConfigError
from aenet_ray.models.model_file import read_model_file, write_model_file
from aenet_ray.potential import TorchANNPotential

CASES = ["molecule_2species_water", "molecule_4species_absent_species", "periodic_triclinic_small"]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_round_trip(tmp_path, name, dtype):
    case = golden(name)
    potential = golden_potential(case)
    potential.model.to(dtype)
    potential.save(tmp_path / "model.pt", extra_metadata={"who": "a test", "n": 3})
    read = TorchANNPotential.from_file(tmp_path / "model.pt")
    assert read.model.dtype == dtype
    assert read.arch == potential.arch
    assert read.descriptor.config() == potential.descriptor.config()
    assert read.atomic_energies == potential.atomic_energies
    assert read.metadata["extra_metadata"] == {"who": "a test", "n": 3}
    potential.save(tmp_path / "plain.pt")
    assert TorchANNPotential.from_file(tmp_path / "plain.pt").metadata["extra_metadata"] == {}
    assert read.metadata["precision"] == str(dtype).removeprefix("torch.")
    structure = golden_structure(case)
    one, two = (p.predict([structure], eval_forces=True) for p in (potential, read))
    assert one.total_energy == two.total_energy
    np.testing.assert_array_equal(one.forces[0], two.forces[0])
    if dtype == torch.float32:
        assert one.cohesive_energy[0] == pytest.approx(case["cohesive_energy"], abs=1e-4)
        assert one.total_energy[0] != pytest.approx(case["total_energy"], abs=1e-10), "this tests nothing"


def test_saved_again_it_keeps_its_metadata(tmp_path):
    potential = random_potential()
    potential.save(tmp_path / "one.pt", extra_metadata={"note": "kept"})
    read = TorchANNPotential.from_file(tmp_path / "one.pt")
    with torch.no_grad():
        read.model.net.layers("O")[0][0].mul_(2.0)
    read.save(tmp_path / "two.pt")
    again = TorchANNPotential.from_file(tmp_path / "two.pt")
    assert again.metadata["extra_metadata"] == {"note": "kept"}
    torch.testing.assert_close(again.model.net.layers("O")[0][0], 2 * potential.model.net.layers("O")[0][0])


def test_files_load_with_weights_only(tmp_path):
    random_potential().save(tmp_path / "model.pt")
    payload = torch.load(tmp_path / "model.pt", weights_only=True)
    assert payload["schema_version"] == "2.0"
    assert set(payload["model_state_dict"]) >= {"net.functions.0.Linear_Sp1_F1.weight"}


class Touch:
    """Pickled, it makes a folder when it is unpickled without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_code_in_a_file_is_refused_and_not_run(tmp_path):
    random_potential().save(tmp_path / "model.pt")
    payload = torch.load(tmp_path / "model.pt", weights_only=True)
    payload["extra_metadata"] = Touch(tmp_path / "touched")
    torch.save(payload, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil\.pt: cannot be read as a model file"):
        TorchANNPotential.from_file(tmp_path / "evil.pt")
    assert not (tmp_path / "touched").exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "touched").exists(), "the file would have run code"


def test_other_files_are_refused(tmp_path):
    random_potential().save(tmp_path / "model.pt")
    good = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "short.pt").write_bytes(good[: len(good) // 2])
    with pytest.raises(CheckpointError, match=r"short\.pt: cannot be read"):
        read_model_file(tmp_path / "short.pt")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="no aenet_ray model file; expected the keys architecture"):
        read_model_file(tmp_path / "other.pt")
    write_model_file(tmp_path / "future.pt", read_model_file(tmp_path / "model.pt") | {"schema_version": "3.1"})
    with pytest.raises(CheckpointError, match=r"version 3\.1, this aenet_ray reads 2\.0"):
        read_model_file(tmp_path / "future.pt")
    with pytest.raises(FileNotFoundError, match=r"none\.pt: no such model file or checkpoint"):
        read_model_file(tmp_path / "none.pt")


def test_writing_is_all_or_nothing(tmp_path):
    random_potential().save(tmp_path / "model.pt")
    before = (tmp_path / "model.pt").read_bytes()
    with pytest.raises(CheckpointError, match="cannot be written"):
        random_potential().save(tmp_path / "nowhere" / "model.pt")
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever pickle says
        write_model_file(tmp_path / "model.pt", {"generator": (i for i in range(3))})
    assert (tmp_path / "model.pt").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_a_device_that_is_not_here(tmp_path):
    potential = random_potential()
    potential.save(tmp_path / "model.pt")
    with pytest.raises(ConfigError, match="'abacus' is none; expected 'cpu' or 'cuda'"):
        TorchANNPotential.from_file(tmp_path / "model.pt", device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="torch sees no CUDA device"):
            TorchANNPotential.from_file(tmp_path / "model.pt", device="cuda")
        payload = read_model_file(tmp_path / "model.pt")
        payload["descriptor_config"]["device"] = "cuda"  # as a potential trained on a GPU has it
        write_model_file(tmp_path / "from_gpu.pt", payload)
        assert TorchANNPotential.from_file(tmp_path / "from_gpu.pt").descriptor.device.type == "cpu"


def test_a_file_knows_nothing_of_its_temporary_name(tmp_path):
    """Which differs from one write to the next: the same content is the same bytes, but for the time."""
    content = write_model_file(tmp_path / "model.pt", {"a": torch.ones(3)}).read_bytes()
    assert b".model.pt" not in content
    assert len(write_model_file(tmp_path / "other.pt", {"a": torch.ones(3)}).read_bytes()) == len(content)

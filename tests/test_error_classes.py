"""What aenet-python raises for bad input can be caught by the same class here (and by ours), also after a pickle."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from aenet_ray import (
    ChebyshevDescriptor,
    HDF5StructureDataset,
    Structure,
    StructureDataset,
    TorchANNPotential,
    TorchCommitteePotential,
    TorchTrainingConfig,
    iter_composition_energy_samples_from_files,
)
from aenet_ray import errors as ours

DESCRIPTOR = ChebyshevDescriptor(["Ti", "O"], 2, 3.0, 1, 3.0)
ARCH = {s: [(3, "tanh")] for s in ("Ti", "O")}
RNG = np.random.default_rng(0)


def structures(energy=True, species=("Ti", "O"), n=4):
    return [Structure(RNG.uniform(0, 4, (2, 3)), list(species), -3.0 - i if energy else None) for i in range(n)]


def train(data, config=None, **arguments):
    values = {"iterations": 1, "atomic_energies": {"Ti": 0.0, "O": 1.0}, "show_progress": False, "testpercent": 0}
    return TorchANNPotential(ARCH, DESCRIPTOR).train(
        data, config=TorchTrainingConfig(**(values | (config or {}))), **arguments
    )


def garbled(path="garbled.pt"):
    with open(path, "wb") as file:
        file.write(b"no model")
    return path


H2 = structures(species=("H", "H"))
CASES = [
    ("unknown setting", lambda: TorchTrainingConfig(itertions=1), TypeError),
    ("removed setting", lambda: TorchTrainingConfig(scheduler_kind="step"), TypeError),
    ("value out of range", lambda: TorchTrainingConfig(testpercent=101), ValueError),
    ("seed is a switch", lambda: TorchTrainingConfig(seed=True), ValueError),
    ("no data", lambda: TorchANNPotential(ARCH, DESCRIPTOR).train(), ValueError),
    ("nothing left to train on", lambda: train(structures(), {"max_energy": -1e9}), ValueError),
    ("no finite energies", lambda: train(structures(energy=False)), ValueError),
    ("none to weight", lambda: train(structures(energy=False), {"sampling_policy": "energy_weighted"}), ValueError),
    ("unknown species of a descriptor", lambda: DESCRIPTOR.forward_from_positions(np.zeros((1, 3)), ["H"]), KeyError),
    ("unknown species of a prediction", lambda: TorchANNPotential(ARCH, DESCRIPTOR).predict(H2), KeyError),
    ("unknown species of a run", lambda: train(H2), KeyError),
    ("unknown species of a dataset", lambda: StructureDataset(H2, DESCRIPTOR), KeyError),
    (
        "unknown species of a file",
        lambda: HDF5StructureDataset(DESCRIPTOR, "d.h5", H2, "build").build_database(show_progress=False),
        KeyError,
    ),
    ("no checkpoint", lambda: train(structures(), resume_from="none.pt"), RuntimeError),
    ("no checkpoint, by its file", lambda: train(structures(), resume_from="none.pt"), FileNotFoundError),
    ("garbled checkpoint", lambda: train(structures(), resume_from=garbled()), RuntimeError),
    ("no model", lambda: TorchANNPotential.from_file("none.pt"), FileNotFoundError),
    ("garbled model", lambda: TorchANNPotential.from_file(garbled()), RuntimeError),
    ("no HDF5 file", lambda: HDF5StructureDataset(DESCRIPTOR, "none.h5", mode="load"), FileNotFoundError),
    ("no structure file", lambda: train(["none.xsf"]), FileNotFoundError),
    ("no structure file to predict", lambda: TorchANNPotential(ARCH, DESCRIPTOR).predict("no.xsf"), FileNotFoundError),
    ("no sample file", lambda: list(iter_composition_energy_samples_from_files(["none.xsf"])), FileNotFoundError),
    ("nor as XSF", lambda: list(iter_composition_energy_samples_from_files("no", frmt="xsf")), FileNotFoundError),
    ("no committee", lambda: TorchCommitteePotential.from_files([]), ValueError),
    ("arch lacks a species", lambda: TorchANNPotential({"Ti": [(3, "tanh")]}, DESCRIPTOR), ValueError),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_class(call, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, ours.AenetRayError | FileNotFoundError)
    assert not str(caught.value).startswith(("'", '"')), "a KeyError shows its message in quotes"


def test_every_error_survives_the_trip_from_a_worker():
    found = [c for c in vars(ours).values() if isinstance(c, type) and issubclass(c, ours.AenetRayError)]
    assert len(found) > 15
    for kind in found:
        back = pickle.loads(pickle.dumps(kind("where: what.")))
        assert type(back) is kind
        assert str(back) == "where: what."

"""Files of aenet-python that are damaged, of an unknown version, or no data: refused by name, with what to do."""

# ruff: noqa: E501 - rows of a table

from __future__ import annotations

import gzip
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from legacy_files import changed, model_payload, pickled, unpacked, with_pickle, write_model
from potentials import golden, random_potential
from trnset_text import write_trnset_text

from aenet_ray.conversion import convert
from aenet_ray.errors import CheckpointError, ConfigError, StoreError, StructureError, UnsafeFileError
from aenet_ray.legacy.training_hdf5 import TrainingFile
from aenet_ray.potential import TorchANNPotential
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.structure import Structure
from aenet_ray.training.checkpoint import read_training_state

CASE = golden("periodic_orthorhombic_tio2")
MOLECULE = Structure(np.eye(3), ["Ti", "O", "O"], -2480.0, source="m.xsf")


class Call:
    def __reduce__(self) -> Any:
        return os.system, ("exit 1",)


def old(change: Callable[[h5py.File], None], name: str = "training.h5", **options: Any) -> Callable[[Path], object]:
    """Converting an HDF5 file that was spoilt."""
    return lambda tmp: convert(changed(unpacked(name, tmp), change), tmp / "new.h5", **options)


def attribute(node: str, name: str, value: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[node].attrs[name] = value

    return change


def gone(*names: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        for name in names:
            del file[name]

    return change


def shorter(file: h5py.File) -> None:
    file["entries/structures"].resize(3, axis=0)


def no_entries(file: h5py.File) -> None:
    for name in ("entries/structures", "entries/meta"):
        file[name].resize(0, axis=0)


def other_rows(file: h5py.File) -> None:
    del file["entries/structures"]
    file["entries/structures"] = np.zeros(5)


def cell(file: h5py.File, **values: object) -> None:
    table = file["metadata"]
    row = table[0]
    for key, value in values.items():
        row[key] = value
    table[0] = row


def retyped(table: str, **kinds: str) -> Callable[[h5py.File], None]:
    """A table with columns of other types, empty."""

    def change(file: h5py.File) -> None:
        old = file[table][:]
        new = np.zeros(len(old), [(n, kinds.get(n, old.dtype[n])) for n in old.dtype.names])
        for name in set(old.dtype.names) - set(kinds):
            new[name] = old[name]
        del file[table]
        file[table] = new

    return change


def atom(file: h5py.File) -> None:
    table = file["structures/atoms"]
    row = table[2]
    row["type"] = b"Fe"
    table[2] = row


def entry(**changes: Any) -> Callable[[Path], object]:
    """Converting a training file whose molecule (entry 3) is another record."""
    fields = {"species": ["Ti", "O", "O"], "energy": -2480.25} | changes
    return lambda tmp: convert(with_pickle(unpacked("training.h5", tmp), 3, pickled(**fields)), tmp / "new.h5")


def blob(data: bytes) -> Callable[[Path], object]:
    return lambda tmp: convert(with_pickle(unpacked("training.h5", tmp), 3, data), tmp / "new.h5")


def raw(data: bytes, name: str = "old.h5") -> Callable[[Path], object]:
    def run(tmp: Path) -> object:
        (tmp / name).write_bytes(data)
        return convert(tmp / name, tmp / "new.h5")

    return run


def cut(n: int) -> Callable[[Path], object]:
    def run(tmp: Path) -> object:
        path = unpacked("training.h5", tmp)
        path.write_bytes(path.read_bytes()[:n])
        return convert(path, tmp / "new.h5")

    return run


def text(line: int, content: str) -> Callable[[Path], object]:
    """Converting a TrnSet as text with a line, counted from 0, changed."""

    def run(tmp: Path) -> object:
        path = write_trnset_text(tmp / "set", [MOLECULE])
        lines = path.read_text().splitlines()
        lines[line] = content
        path.write_text("\n".join(lines))
        return convert(path, tmp / "new.h5", isolated=True)

    return run


def model(**changes: Any) -> Callable[[Path], object]:
    """Reading a model file with other contents; a value that can be called changes what is there."""

    def run(tmp: Path) -> object:
        payload = model_payload(CASE)
        for key, value in changes.items():
            payload[key] = value(payload[key]) if callable(value) else value
        return TorchANNPotential.from_file(write_model(tmp / "model.pt", payload))

    return run


def without(key: str) -> Callable[[dict], dict]:
    return lambda values: {k: v for k, v in values.items() if k != key}


def renamed(values: dict) -> dict:
    return {k.replace("Linear_", "Dense_"): v for k, v in values.items()}


def optimizer(state: dict[str, Any], method: str = "adam") -> Callable[[Path], object]:
    """Going on from a checkpoint with another state; its potential can still be used."""

    def run(tmp: Path) -> object:
        payload = model_payload(CASE, optimizer_state_dict=state, training_config={"method": {"name": method}})
        path = write_model(tmp / "model.pt", payload)
        TorchANNPotential.from_file(path).predict([MOLECULE])
        return read_training_state(path)

    return run


def model_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    def run(tmp: Path) -> object:
        path = write_model(tmp / "model.pt", model_payload(CASE))
        path.write_bytes(change(path.read_bytes()))
        return convert(path, tmp / "new.pt")

    return run


def other_zip() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("letter.txt", "hello")
    return data.getvalue()


def ours(tmp: Path) -> object:
    random_potential().save(tmp / "ours.pt")
    return convert(tmp / "ours.pt", tmp / "new.pt")


def in_place(tmp: Path) -> object:
    path = unpacked("training.h5", tmp)
    return convert(path, path)


def settings(change: Callable[[h5py.File], None]) -> Callable[[Path], object]:
    return lambda tmp: TrainingFile(changed(unpacked("training.h5", tmp), change)).filter_settings


def descriptor(change: Callable[[h5py.File], None], name: str = "training.h5") -> Callable[[Path], object]:
    return lambda tmp: TrainingFile(changed(unpacked(name, tmp), change)).descriptor_config


n_weights = len(model_payload(CASE)["model_state_dict"])
GROUP = {"lr": 1e-3, "betas": (0.9, 0.999), "params": list(range(n_weights))}

ROWS: list[tuple[str, Callable[[Path], object], type[Exception], str]] = [
    # files
    ("missing", lambda tmp: convert(tmp / "no.h5", tmp / "new.h5"), FileNotFoundError, r"no\.h5: no such file"),
    ("missing, opened", lambda tmp: TrainingFile(tmp / "no.h5"), FileNotFoundError, r"no\.h5: no such file"),
    ("a directory", lambda tmp: convert(tmp, tmp / "new.h5"), StructureError, "a directory; give the files in it one by one"),
    ("empty", raw(b""), StructureError, r"old\.h5: the file is empty"),
    ("text", raw(b"hello"), StructureError, r"old\.h5: no file of aenet-python: expected .*model\.pt.*'aenet-ray build'"),
    ("an XSF file", raw(b"CRYSTAL\nPRIMVEC\n"), StructureError, "no file of aenet-python"),
    ("compressed", lambda tmp: raw(gzip.compress(unpacked("older.h5", tmp).read_bytes()))(tmp), StructureError, "no file of aenet-python"),
    ("truncated HDF5", cut(60_000), StoreError, r"training\.h5: truncated"),
    ("HDF5 head only", cut(8), StoreError, r"training\.h5: (truncated|not an HDF5 file, or damaged)"),
    ("onto itself", in_place, StructureError, "is the input; write the new file under another name"),
    ("into no folder", lambda tmp: convert(unpacked("training.h5", tmp), tmp / "no" / "new.h5"), StoreError, "cannot write a structure store here"),
    ("on_error unknown", lambda tmp: convert(unpacked("older.h5", tmp), tmp / "new.h5", on_error="ignore"), ConfigError, "on_error='ignore', .*expected raise or skip"),
    ("energies unknown", lambda tmp: convert(unpacked("trnset.h5", tmp), tmp / "new.h5", energies="free"), ConfigError, "energies='free'; expected .*auto, cohesive or total"),
    ("our model", ours, CheckpointError, r"ours\.pt: is a model file of aenet_ray already"),
    # training HDF5
    ("no table", old(gone("entries/meta")), StoreError, "entries/meta is missing"),
    ("no structures", old(gone("entries/structures")), StoreError, "entries/structures is missing"),
    ("neither", old(gone("entries")), StoreError, "an HDF5 file, but no structure store"),
    ("fewer structures than rows", old(shorter), StoreError, "3 structures, but the table describes 5: damaged, or not completely written"),
    ("no rows", old(no_entries), StoreError, "holds no structure"),
    ("rows of numbers", old(other_rows), StoreError, "/entries/structures is no list of byte rows"),
    ("JSON damaged", settings(attribute("/", "energy_filter_atomic_energies_json", np.bytes_(b"{Ti:"))), StoreError, r"energy_filter_atomic_energies_json of / is '\{Ti:', expected JSON"),
    ("JSON of a list", settings(attribute("/", "energy_filter_atomic_energies_json", np.bytes_(b"[1]"))), StoreError, "expected JSON"),
    ("atomic energies of text", settings(attribute("/", "energy_filter_atomic_energies_json", np.bytes_(b'{"Ti":"a"}'))), StoreError, "expected numbers"),
    ("limit of text", settings(attribute("/", "energy_filter_max_referenced_energy_per_atom", "low")), StoreError, "energy_filter_.* are no numbers"),
    ("manifest version", descriptor(attribute("descriptor_manifest", "schema_version", 2)), StoreError, "the descriptor manifest has schema_version 2, this reader knows 1"),
    ("manifest format", descriptor(attribute("descriptor_manifest", "manifest_format", np.bytes_(b"v9"))), StoreError, "manifest_format 'v9', this reader knows 'aenet"),
    ("manifest edited", descriptor(attribute("descriptor_manifest", "config_json", np.bytes_(b"{}"))), StoreError, "config_json of /descriptor_manifest does not fit its config_sha256"),
    ("manifest without JSON", descriptor(lambda f: f["descriptor_manifest"].attrs.__delitem__("config_json")), StoreError, "config_json lacks species, rad_order"),
    ("derivatives without JSON", descriptor(lambda f: f["force_derivatives"].attrs.__delitem__("descriptor_compat_json"), "older.h5"), StoreError, "descriptor_compat_json lacks"),
    ("energies as text", old(retyped("entries/meta", energy="S8")), StoreError, "entry 0 cannot be read"),
    ("names as numbers", old(retyped("entries/meta", name="f8")), StoreError, "entry 0 cannot be read"),
    ("a TrnSet's types as numbers", old(retyped("metadata", atomic_energy="S8"), "trnset.h5"), StoreError, "/metadata cannot be read"),
    ("a TrnSet's paths as numbers", old(retyped("structures/info", path="f8"), "trnset.h5"), StoreError, "structure 0 cannot be read"),
    # records
    ("os.system", entry(name=Call()), UnsafeFileError, r"training\.h5, entry 3: refused: its pickle asks for '(posix|nt)\.system'"),
    ("an array of objects", entry(cell=np.array([None])), UnsafeFileError, "makes arrays of 'O8'"),
    ("another class", blob(b"\x80\x04caenet.torch_training.config\nAdam\n)\x81."), UnsafeFileError, r"asks for 'aenet\.torch_training\.config\.Adam'"),
    ("a persistent id", blob(b"\x80\x04Pfile\n."), UnsafeFileError, "holds the instruction b'P'"),
    ("no pickle", blob(b"\x80"), StructureError, "entry 3: damaged: it ends early"),
    ("a pickle of a list", blob(b"\x80\x04]."), StructureError, "entry 3: holds a list, expected a record of aenet"),
    ("cut", blob(pickled()[:-9]), StructureError, "entry 3: damaged: it ends early"),
    ("other energy", entry(energy=-1.0), StructureError, r"the table says energy -2480\.25, the record has -1\.0"),
    ("energy lost", entry(energy=None), StructureError, r"the table says energy -2480\.25, the record has nan"),
    ("forces from nowhere", entry(forces=np.ones((3, 3))), StructureError, "the table says has_forces False, the record has True"),
    ("one atom more", entry(positions=np.eye(4)[:, :3]), StructureError, "the table says n_atoms 3, the record has 4"),
    ("unknown element", entry(species=["Ti", "O", "Qq"]), StructureError, "entry 3: .*unknown species 'Qq'"),
    ("two species", entry(species=["Ti", "O"]), StructureError, "entry 3: .*2 species for 3 positions"),
    ("a flat cell shape", entry(cell=np.ones(9)), StructureError, r"entry 3: .*cell have shape \(9,\), expected \(3, 3\)"),
    ("four directions", entry(cell=np.eye(3) * 9, pbc=np.ones(4, bool)), StructureError, r"entry 3: .*pbc has shape \(4,\)"),
    ("positions of NaN", entry(positions=np.full((3, 3), np.nan)), StructureError, "positions are NaN or infinite"),
    ("a new field", entry(stress=np.eye(3)), StructureError, "the record has the field 'stress'; known are positions"),
    # where a store belongs
    ("as a store", lambda tmp: StructureStore(unpacked("training.h5", tmp)), StoreError, "aenet-python's training HDF5, not a structure store. Convert it: 'aenet-ray convert"),
    ("a TrnSet as a store", lambda tmp: StructureStore(unpacked("trnset.h5", tmp)), StoreError, r"a TrnSet file \(HDF5\), not a structure store"),
    ("a TrnSet as structures", lambda tmp: list(read_structures(unpacked("trnset.h5", tmp))), StructureError, "read it with 'aenet-ray convert"),
    # TrnSet
    ("no cell", lambda tmp: convert(unpacked("trnset_no_cells.h5", tmp), tmp / "new.h5"), StructureError, "structure 0 .* has no cell in it.*--isolated"),
    ("normalised", old(lambda f: cell(f, normalized=True), "trnset.h5"), StructureError, "its energies are normalised"),
    ("other extremes", old(lambda f: cell(f, E_min=-99.0), "trnset.h5"), StructureError, "neither cohesive nor total ones.*--energies total"),
    ("other counts", old(lambda f: cell(f, num_structures=9), "trnset.h5"), StoreError, "holds 3 structures and 18 atoms, its header says 9 and 18"),
    ("a species from nowhere", old(atom, "trnset.h5"), StructureError, r"structure 0: species Fe is not in the header \(Ti, O\)"),
    ("no atoms", old(gone("structures/atoms"), "trnset.h5"), StoreError, "structures/atoms is missing"),
    ("text: type 3", text(15, "3"), StructureError, r"line 16: '3', expected a type from 1 to 2"),
    ("text: type 1.5", text(15, "1.5"), StructureError, r"line 16: '1\.5', expected a type from 1 to 2"),
    ("text: coordinates", text(16, "0.0 0.0"), StructureError, "line 18: '5 numbers', expected coordinates"),
    ("text: a word", text(17, "none at all"), StructureError, "line 18: 'none at all', expected forces"),
    ("text: energy", text(14, "low"), StructureError, "line 15: 'low', expected an energy"),
    ("text: no atoms", text(13, "0 1"), StructureError, "line 14: '0 1', expected numbers of atoms and types"),
    ("text: huge", text(13, "99999999999 1"), StructureError, r"line 14: '1e\+11 1', expected numbers of atoms"),
    # models
    ("no model", lambda tmp: TorchANNPotential.from_file(tmp / "m.pt"), FileNotFoundError, r"m\.pt: no such model file"),
    ("model truncated", model_bytes(lambda data: data[: len(data) // 2]), CheckpointError, r"model\.pt: cannot be read as a model file"),
    ("model with a flipped part", model_bytes(lambda data: data[:200] + bytes(400) + data[600:]), CheckpointError, r"model\.pt: cannot be read as a model file"),
    ("another zip", raw(other_zip(), "model.pt"), CheckpointError, r"model\.pt: cannot be read as a model file"),
    ("a model of code", model(extra_metadata={"x": Call()}), CheckpointError, r"it asks for '(posix|nt)\.system', which no potential needs"),
    ("a model with an element type", model(extra_metadata={"x": np.dtype("f8")}), CheckpointError, "holds a _Type, expected tensors and plain values"),
    ("a model with a type of objects", model(extra_metadata={"x": np.dtype("O")}), CheckpointError, r"cannot be read as a model file \(makes arrays of 'O8'"),
    ("a model with a set", model(extra_metadata={"x": {1}}), CheckpointError, "holds a set, expected tensors and plain values"),
    ("a list", lambda tmp: convert(write_model(tmp / "m.pt", [1]), tmp / "n.pt"), CheckpointError, "is no aenet_ray model file"),
    ("another version", model(schema_version="3.1"), CheckpointError, "is no aenet_ray model file"),
    ("no architecture", model(architecture={}), CheckpointError, "architecture has no layers for Ti, O"),
    ("architecture of text", model(architecture={"Ti": "tanh", "O": "tanh"}), CheckpointError, "does not have its layout: ValueError"),
    ("no species", model(descriptor_config=without("species")), CheckpointError, "does not have its layout: KeyError: 'species'"),
    ("no weights", model(model_state_dict={}), CheckpointError, "holds no weights"),
    ("weights under other names", model(model_state_dict=renamed), CheckpointError, r"weight 'net\.functions\.0\.Dense_Sp1_F1\.weight', expected names such as"),
    ("a weight missing", model(model_state_dict=without("net.functions.1.Linear_Sp2_F1.bias")), CheckpointError, "weights do not fit the network: net.functions.1.Linear_Sp2_F1.bias has shape nothing"),
    ("weights of integers", model(model_state_dict=lambda w: {k: v.long() for k, v in w.items()}), CheckpointError, "weights of type torch.int64, expected float32 or float64"),
    ("weights of two types", model(model_state_dict=lambda w: {k: v.float() if "bias" in k else v for k, v in w.items()}), CheckpointError, "expected float32 or float64"),
    ("statistics of text", model(normalization=lambda n: n | {"feature_mean": ["a"]}), CheckpointError, "does not have its layout: ValueError"),
    ("history of text", model(training_history={"train_energy_rmse": ["low"]}), CheckpointError, "does not have its layout: ValueError"),
    ("optimiser of two groups", optimizer({"state": {}, "param_groups": [GROUP, GROUP]}), CheckpointError, r"model\.pt: its optimiser has 2 groups .*from_file and train that"),
    ("optimiser of other weights", optimizer({"state": {}, "param_groups": [GROUP | {"params": [0]}]}), CheckpointError, "its optimiser has 1 groups for 12 weights"),
    ("optimiser unknown", optimizer({"state": {0: {"square_avg": torch.zeros(3)}}, "param_groups": [GROUP]}), CheckpointError, "its optimiser keeps square_avg, expected those of Adam or SGD"),
    ("optimiser of other shapes", optimizer({"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3)}}, "param_groups": [GROUP]}), CheckpointError, r"exp_avg of net\.functions\.0\.Linear_Sp1_F1\.weight has shape \(3,\), expected"),
    ("optimiser without parts", optimizer({"state": {}}), CheckpointError, "its optimiser's state is damaged: KeyError.*from_file"),
    ("method unknown", optimizer({"state": {}, "param_groups": [GROUP]}, "rprop"), CheckpointError, "trained with method 'rprop', expected adam or sgd.*from_file"),
]  # fmt: skip


@pytest.mark.parametrize(("attempt", "kind", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_refused(tmp_path, attempt, kind, message):
    with pytest.raises(kind, match=message):
        attempt(tmp_path)
    assert not (tmp_path / "new.h5").exists()
    assert not (tmp_path / "new.pt").exists()


def test_there_are_many_and_each_is_another():
    assert len(ROWS) >= 75
    assert len({row[0] for row in ROWS}) == len(ROWS)

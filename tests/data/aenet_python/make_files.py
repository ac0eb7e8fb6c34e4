"""Writes the small files of this folder as aenet-python does, with PyTables: ``pip install tables``, then run it here.

Features and derivatives are computed by the textbook sums over pairs and triplets in plain NumPy, so that a test which
compares them with aenet_ray's compares two programs.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import tables

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden"


class Structure:
    """What aenet-python pickles: the class path and the state count, not the code."""

    def __init__(self, positions, species, energy, forces=None, cell=None, pbc=None, name=None):
        self.positions, self.species, self.energy = np.asarray(positions, float), species, energy
        self.forces, self.cell, self.pbc, self.name = forces, cell, pbc, name


def as_aenet_python() -> None:
    names = ["aenet", "torch_training", "config"]
    for k in range(len(names)):
        sys.modules[".".join(names[: k + 1])] = types.ModuleType(".".join(names[: k + 1]))
    sys.modules[".".join(names)].Structure = Structure
    Structure.__module__ = ".".join(names)


# the descriptor, by its definition


def chebyshev(order, x):
    theta = np.arccos(np.clip(x, -1, 1))
    values = np.array([np.cos(n * theta) for n in range(order + 1)])
    slopes = np.array([np.polynomial.chebyshev.Chebyshev.basis(n).deriv()(x) if n else 0.0 for n in range(order + 1)])
    return values, slopes


def cut(d, r):
    return 0.5 * (np.cos(np.pi * d / r) + 1) * (d < r), -0.5 * np.pi / r * np.sin(np.pi * d / r) * (d < r)


def local_derivatives(s, p):
    """Features and blocks of one structure."""
    n = len(s.positions)
    spin = typespin(p["species"])
    weights = np.array([spin[p["species"].index(x)] for x in s.species], float)
    shifts = [np.zeros(3)]
    if s.cell is not None:
        reach = range(-3, 4)
        shifts = [np.array(t) @ s.cell for t in itertools.product(reach, repeat=3)]
    n_rad, n_ang = p["rad_order"] + 1, p["ang_order"] + 1
    r_max = max(p["rad_cutoff"], p["ang_cutoff"])
    features = np.zeros((n, 2 * (n_rad + n_ang)))
    blocks = {k: [] for k in ("c", "j", "dg", "w", "tc", "tj", "tk", "gi", "gj", "gk", "tw")}
    for i in range(n):
        near = []
        for j in range(n):
            for t in shifts:
                r = s.positions[j] + t - s.positions[i]
                d = np.linalg.norm(r)
                if p["min_cutoff"] < d <= r_max:
                    near.append((j, r / d, d))
        for j, u, d in near:
            if d > p["rad_cutoff"]:
                continue
            value, slope = chebyshev(p["rad_order"], 2 * d / p["rad_cutoff"] - 1)
            f, df = cut(d, p["rad_cutoff"])
            features[i, :n_rad] += value * f
            features[i, n_rad + n_ang : 2 * n_rad + n_ang] += weights[j] * value * f
            dg = slope * 2 / p["rad_cutoff"] * f + value * df
            blocks["c"].append(i), blocks["j"].append(j), blocks["w"].append(weights[j])
            blocks["dg"].append(dg[:, None] * u)
        for (j, uj, dj), (k, uk, dk) in itertools.combinations([x for x in near if x[2] <= p["ang_cutoff"]], 2):
            c = float(np.clip(uj @ uk, -1, 1))
            value, slope = chebyshev(p["ang_order"], c)
            (fj, dfj), (fk, dfk) = cut(dj, p["ang_cutoff"]), cut(dk, p["ang_cutoff"])
            w = weights[j] * weights[k]
            features[i, n_rad : n_rad + n_ang] += value * fj * fk
            features[i, 2 * n_rad + n_ang :] += w * value * fj * fk
            a = slope * fj * fk
            gj = a[:, None] * (uk - c * uj) / dj + (value * dfj * fk)[:, None] * uj
            gk = a[:, None] * (uj - c * uk) / dk + (value * fj * dfk)[:, None] * uk
            for key, x in zip(("tc", "tj", "tk", "gi", "gj", "gk", "tw"), (i, j, k, -gj - gk, gj, gk, w), strict=True):
                blocks[key].append(x)
    if len(p["species"]) == 1:
        features = features[:, : n_rad + n_ang]
    return features, blocks


def typespin(species):
    s, out = -(len(species) // 2), []
    for _ in species:
        if len(species) % 2 == 0 and s == 0:
            s = 1
        out.append(s)
        s += 1
    return out


# the file


def compact(values):
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def hashed(attrs, name, values):
    attrs[f"{name}_json"] = text = compact(values)
    attrs[f"{name}_sha256"] = hashlib.sha256(text.encode()).hexdigest()


CLASS = "aenet.torch_training.featurize.ChebyshevDescriptor"


class Meta(tables.IsDescription):
    source_id = tables.StringCol(2048)
    frame_idx = tables.Int64Col()
    source_kind = tables.StringCol(64)
    display_name = tables.StringCol(2048)
    has_forces = tables.BoolCol()
    n_atoms = tables.Int32Col()
    energy = tables.Float64Col()
    name = tables.StringCol(1024)


def write_training(path, rows, p, *, manifest=True, old_layout=False, energies=None, limit=None, dtype="float64"):
    filters = tables.Filters(complevel=5, complib="zlib", shuffle=True)
    real = {"float64": tables.Float64Atom, "float32": tables.Float32Atom}[dtype]
    with tables.open_file(path, "w", filters=filters) as h5:
        a = h5.root._v_attrs
        a.energy_filter_semantics = "referenced_energy_per_atom"
        a.energy_filter_enabled = limit is not None
        a.energy_filter_reference_mode = "explicit_atomic_references" if energies else "zero_reference_fallback"
        a.energy_filter_max_referenced_energy_per_atom = float("nan") if limit is None else limit
        a.energy_filter_atomic_energies_json = compact(energies) if energies else ""
        group = h5.create_group("/", "entries")
        structures = h5.create_vlarray(group, "structures", tables.UInt8Atom(), expectedrows=8)
        meta = h5.create_table(group, "meta", Meta, expectedrows=8)
        for source_id, frame, kind, display, s in rows:
            s.species = [np.str_(x) for x in s.species]
            structures.append(np.frombuffer(pickle.dumps(s, protocol=pickle.HIGHEST_PROTOCOL), dtype=np.uint8))
            row = meta.row
            row["source_id"], row["frame_idx"], row["source_kind"] = source_id.encode(), frame, kind.encode()
            row["display_name"], row["has_forces"] = display.encode(), s.forces is not None
            row["n_atoms"], row["name"] = len(s.positions), (s.name or "").encode()
            row["energy"] = np.nan if s.energy is None else s.energy
            row.append()
        meta.flush()
        n_rad, n_ang, multi = p["rad_order"] + 1, p["ang_order"] + 1, len(p["species"]) > 1
        compat = {"descriptor_class": CLASS, **p, "multi": multi}
        n_features = (2 if multi else 1) * (n_rad + n_ang)
        if manifest:
            node = h5.create_group("/", "descriptor_manifest")._v_attrs
            node.schema_version, node.descriptor_class = 1, CLASS
            node.manifest_format = "aenet.torch_training.descriptor_manifest.v1"
            hashed(node, "config", {**p, "dtype": dtype, "device": "cpu", "n_features": n_features})
        parent = h5.root
        computed = [local_derivatives(row[-1], p) for row in rows]
        if not old_layout:
            parent = h5.create_group("/", "torch_cache")
            node = parent._v_attrs
            node.schema_version, node.cache_format = 2, "aenet.torch_training.cache.v2"
            hashed(node, "descriptor_compat", compat)
            node.storage_dtype, node.contains_features, node.contains_force_derivatives = dtype, True, True
            group = h5.create_group(parent, "features")
            columns = {"entry_idx": tables.Int64Col(), "cache_row": tables.Int64Col(), "n_atoms": tables.Int32Col(),
                       "n_features": tables.Int32Col()}  # fmt: skip
            index = h5.create_table(group, "index", columns, expectedrows=8)
            values = h5.create_vlarray(group, "values", real(), expectedrows=8)
            for k, (features, _) in enumerate(computed):
                row = index.row
                row["entry_idx"], row["cache_row"], row["n_atoms"], row["n_features"] = k, k, *features.shape
                row.append()
                values.append(features.ravel())
            index.flush()
        group = h5.create_group(parent, "force_derivatives")
        node = group._v_attrs
        node.schema_version, node.payload_format = 1, "aenet.torch_training.local_derivatives.v1"
        hashed(node, "descriptor_compat", compat)
        node.storage_dtype, node.n_radial_features, node.n_angular_features, node.multi = dtype, n_rad, n_ang, multi
        node.contains_features, node.contains_positions = False, False
        columns = {"entry_idx": tables.Int64Col(), "cache_row": tables.Int64Col(), "n_atoms": tables.Int32Col(),
                   "n_radial_edges": tables.Int32Col(), "n_angular_triplets": tables.Int32Col()}  # fmt: skip
        index = h5.create_table(group, "index", columns, expectedrows=8)
        lists = {}
        for name, atoms, key in (
            ("radial", tables.Int64Atom, {"center_idx": "c", "neighbor_idx": "j"}),
            ("radial", real, {"dG_drij": "dg", "neighbor_typespin": "w"}),
            ("angular", tables.Int64Atom, {"center_idx": "tc", "neighbor_j_idx": "tj", "neighbor_k_idx": "tk"}),
            ("angular", real, {"grads_i": "gi", "grads_j": "gj", "grads_k": "gk", "triplet_typespin": "tw"}),
        ):
            if name not in group:
                h5.create_group(group, name)
            for node, k in key.items():
                lists[k] = h5.create_vlarray(group._f_get_child(name), node, atoms(), expectedrows=8)
        cache_row = 0
        for k, (row_, (features, blocks)) in enumerate(zip(rows, computed, strict=True)):
            if row_[-1].forces is None:
                continue
            row = index.row
            row["entry_idx"], row["cache_row"], row["n_atoms"] = k, cache_row, len(features)
            row["n_radial_edges"], row["n_angular_triplets"] = len(blocks["c"]), len(blocks["tc"])
            row.append()
            cache_row += 1
            for key, values in blocks.items():
                values = [] if key in ("w", "tw") and not multi else np.asarray(values).ravel()
                lists[key].append(values)
        index.flush()


class Metadata1(tables.IsDescription):
    name = tables.StringCol(1024)
    normalized = tables.BoolCol()
    scale = tables.Float64Col()
    shift = tables.Float64Col()
    atom_types = tables.StringCol(64, shape=(2,))
    atomic_energy = tables.Float64Col(shape=(2,))
    num_atoms_tot = tables.UInt64Col()
    num_structures = tables.UInt64Col()
    E_min = tables.Float64Col()
    E_max = tables.Float64Col()
    E_av = tables.Float64Col()


class Info(tables.IsDescription):
    path = tables.StringCol(1024)
    first_atom = tables.UInt64Col()
    num_atoms = tables.UInt32Col()
    energy = tables.Float64Col()


class Atoms(tables.IsDescription):
    structure = tables.UInt64Col()
    type = tables.StringCol(64)
    coords = tables.Float64Col(shape=(3,))
    forces = tables.Float64Col(shape=(3,))


def write_trnset(path, rows, p, energies, *, cells=True):
    filters = tables.Filters(complevel=5, complib="zlib", shuffle=True)
    cohesive = [s.energy - sum(energies[x] for x in s.species) for *_, s in rows]
    per_atom = [e / len(s.positions) for e, (*_, s) in zip(cohesive, rows, strict=True)]
    with tables.open_file(path, "w", filters=filters) as h5:
        row = h5.create_table("/", "metadata", Metadata1, expectedrows=1).row
        row["name"], row["normalized"], row["scale"], row["shift"] = b"a set", False, 1.0, 0.0
        row["atom_types"] = np.array([x.encode() for x in p["species"]], "S64")
        row["atomic_energy"] = [energies[x] for x in p["species"]]
        row["num_atoms_tot"], row["num_structures"] = sum(len(s.positions) for *_, s in rows), len(rows)
        row["E_min"], row["E_max"], row["E_av"] = min(per_atom), max(per_atom), np.mean(per_atom)
        row.append()
        group = h5.create_group("/", "structures")
        info = h5.create_table(group, "info", Info, expectedrows=8)
        atoms = h5.create_table(group, "atoms", Atoms, expectedrows=32)
        features = h5.create_vlarray(group, "features", tables.Float64Atom(), expectedrows=32)
        if cells:
            h5.create_group(group, "cells")
        first = 0
        for i, ((source, *_, s), energy) in enumerate(zip(rows, cohesive, strict=True)):
            row = info.row
            row["path"], row["first_atom"], row["num_atoms"], row["energy"] = (
                source.encode(),
                first,
                len(s.positions),
                energy,
            )
            row.append()
            first += len(s.positions)
            forces = np.zeros_like(s.positions) if s.forces is None else s.forces
            for x, r, f, g in zip(s.species, s.positions, forces, local_derivatives(s, p)[0], strict=True):
                row = atoms.row
                row["structure"], row["type"], row["coords"], row["forces"] = i, x.encode(), r, f
                row.append()
                features.append(g)
            if cells and s.cell is not None:
                node = h5.create_group(group.cells, f"structure_{i:06d}")
                h5.create_array(node, "lattice_vectors", s.cell)
                h5.create_array(node, "pbc", np.array(True))
        info.flush(), atoms.flush()


def tio2() -> list:
    """Rutile in three distortions, one as it moved over the cell's edge, and a molecule without forces or energy."""
    golden = json.loads((GOLDEN / "example_rutile_small.json").read_text())["structure"]
    cell, rng = np.array(golden["cell"]), np.random.default_rng(3)
    rows = []
    for frame, amount in enumerate((0.0, 0.04, 0.08)):
        positions = (
            np.array(golden["positions"]) + rng.normal(scale=amount, size=(6, 3))
            if amount
            else np.array(golden["positions"])
        )
        forces = rng.normal(size=(6, 3)) if frame else None
        if frame == 2:
            positions = positions - np.outer([0, 0, 1, 0, 0, 0], cell[1])
        s = Structure(positions, list(golden["species"]), -4984.9 - frame / 7, forces, cell, np.ones(3, bool))
        rows.append(("set/rutile.traj", 2 * frame, "file", "", s))
    molecule = np.array([[0.0, 0.0, 0.0], [1.6, 0.3, 0.0], [-0.9, 1.3, 0.2]])
    s = Structure(molecule, ["Ti", "O", "O"], -2480.25, name="molécule")
    rows.append(("set.tar::member=7:m.xsf", 0, "tar_xsf_member", "set.tar:m.xsf", s))
    rows.append(("no energy", 0, "record", "shown", Structure(molecule * 1.1, ["Ti", "O", "O"], None)))
    return rows


def hydrogen() -> list:
    golden = json.loads((GOLDEN / "molecule_1species_h4.json").read_text())
    s = golden["structure"]
    return [
        (
            "h4.xsf",
            0,
            "file",
            "",
            Structure(s["positions"], s["species"], golden["total_energy"], np.array(golden["forces"])),
        )
    ]


def main() -> None:
    as_aenet_python()
    p = {
        "species": ["Ti", "O"],
        "rad_order": 2,
        "rad_cutoff": 2.6,
        "ang_order": 1,
        "ang_cutoff": 2.2,
        "min_cutoff": 0.55,
    }
    energies = {"Ti": -1604.604515075, "O": -432.503149303}
    write_training(HERE / "training.h5", tio2(), p, energies=energies, limit=5.0)
    h4 = {"species": ["H"], "rad_order": 2, "rad_cutoff": 3.0, "ang_order": 2, "ang_cutoff": 2.5, "min_cutoff": 0.55}
    write_training(HERE / "older.h5", hydrogen(), h4, old_layout=True, manifest=False, dtype="float32")
    write_trnset(HERE / "trnset.h5", tio2()[:3], p, energies)
    write_trnset(HERE / "trnset_no_cells.h5", tio2()[3:4], p, energies, cells=False)
    for path in HERE.glob("*.h5"):  # PyTables gives every list its own kilobytes of nothing
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()


if __name__ == "__main__":
    main()

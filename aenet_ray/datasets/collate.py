"""Samples of a dataset as one flat batch, for torch's DataLoader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """The ``collate_fn`` of a DataLoader: structures one after the other, no padding.

    Returns:
        features (n_atoms, n_features), positions (n_atoms, 3), species_indices (n_atoms,), structure_index (n_atoms,);
        n_atoms, energy_ref (eV, NaN where absent) and sample_indices (places in the dataset), (n_structures,); and of
        the structures with forces alone features_f, positions_f, species_indices_f, forces_ref_f (eV/Å),
        force_sample_indices (places in this batch) and force_sample_n_atoms.

    Raises:
        ValueError: There is no sample.
    """
    if not samples:
        raise ValueError("collate: no samples; a batch has at least one.")
    counts = torch.tensor([s["n_atoms"] for s in samples])
    supervised = [k for k, s in enumerate(samples) if s["use_forces"]]
    batch = {
        "features": _joined(samples, "features"),
        "positions": _joined(samples, "positions"),
        "species_indices": _joined(samples, "species_indices"),
        "structure_index": torch.repeat_interleave(torch.arange(len(samples)), counts),
        "n_atoms": counts,
        "energy_ref": torch.tensor([s["energy"] for s in samples], dtype=samples[0]["features"].dtype),
        "sample_indices": torch.tensor([s["source_index"] for s in samples]),
        "force_sample_indices": torch.tensor(supervised, dtype=torch.int64),
        "force_sample_n_atoms": counts[supervised],
    }
    with_forces = [samples[k] for k in supervised]
    for name in ("features", "positions", "species_indices"):
        batch[f"{name}_f"] = _joined(with_forces, name) if with_forces else batch[name][:0]
    batch["forces_ref_f"] = _joined(with_forces, "forces") if with_forces else batch["positions"][:0]
    return batch


def _joined(samples: Sequence[dict[str, Any]], name: str) -> Tensor:
    return torch.cat([s[name] for s in samples])

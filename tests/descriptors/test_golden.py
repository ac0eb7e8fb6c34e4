"""Known answers of the descriptor, on every backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor

GOLDEN = Path(__file__).resolve().parent.parent / "data" / "golden"


def cases() -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in sorted(GOLDEN.glob("*.json"))]
    return [case for case in found if case.get("format") == "aenet-golden-1"]


def test_all_cases_are_here() -> None:
    assert len(cases()) == 16


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["case"])
class TestGolden:
    def arguments(self, case: dict[str, Any]) -> tuple[Any, ...]:
        s = case["structure"]
        return s["positions"], s["species"], s.get("cell"), s.get("pbc")

    def test_features(self, case: dict[str, Any], backend: str) -> None:
        descriptor = ChebyshevDescriptor(**case["descriptor"], backend=backend)
        features = descriptor.forward_from_positions(*self.arguments(case))
        assert descriptor.typespin.tolist() == case["typespin"]
        assert features.shape == (len(case["structure"]["species"]), case["n_features"])
        np.testing.assert_allclose(features.numpy(), case["features"], rtol=0, atol=1e-10)

    def test_neighbor_counts(self, case: dict[str, Any]) -> None:
        descriptor = ChebyshevDescriptor(**case["descriptor"])
        edges, _ = descriptor._edges_of(torch.tensor(case["structure"]["positions"], dtype=torch.float64), *(
            self.arguments(case)[1:]
        ))  # fmt: skip
        distance = np.sqrt((edges.vectors**2).sum(1))
        for cutoff, name in (
            (descriptor.rad_cutoff, "neighbor_counts_radial"),
            (descriptor.ang_cutoff, "neighbor_counts_angular"),
        ):
            inside = np.bincount(edges.center(), weights=distance <= cutoff, minlength=edges.n_atoms)
            assert inside.tolist() == case[name]

    def test_projection_gradient(self, case: dict[str, Any], backend: str) -> None:
        descriptor = ChebyshevDescriptor(**case["descriptor"], backend=backend)
        positions = torch.tensor(case["structure"]["positions"], dtype=torch.float64, requires_grad=True)
        features = descriptor.forward_from_positions(positions, *self.arguments(case)[1:])
        weights = torch.tensor(case["projection"]["weights"], dtype=torch.float64)
        (gradient,) = torch.autograd.grad((weights * features).sum(), positions)
        np.testing.assert_allclose(gradient.numpy(), case["projection"]["gradient"], rtol=0, atol=1e-8)

    def test_feature_gradient(self, case: dict[str, Any], backend: str) -> None:
        if "feature_gradient" not in case:
            pytest.skip("this case has no dense gradient")
        descriptor = ChebyshevDescriptor(**case["descriptor"], backend=backend)
        features, gradient = descriptor.compute_feature_gradients(*self.arguments(case))
        np.testing.assert_allclose(features.numpy(), case["features"], rtol=0, atol=1e-10)
        np.testing.assert_allclose(gradient.numpy(), case["feature_gradient"], rtol=0, atol=5e-9)

"""Statistics of features from additive parts: the reference's definition, constant columns included."""

from __future__ import annotations

import numpy as np

from aenet_ray.features.compute import structure_moments
from aenet_ray.features.moments import FeatureMoments
from aenet_ray.models.normalization import Normalization


def moments_of(features, cuts):
    parts = structure_moments(features, np.array(cuts))
    return FeatureMoments(len(features), parts[:, 0].sum(0), parts[:, 1].sum(0), parts[:, 2].min(0), parts[:, 3].max(0))


def test_any_parts_give_the_statistics_of_the_whole():
    features = np.random.default_rng(1).normal(3.0, [0.1, 1.0, 20.0], (50, 3))
    for cuts in ([0, 50], [0, 1, 20, 50], list(range(51))):
        found = moments_of(features, cuts)
        np.testing.assert_allclose(found.mean, features.mean(0), rtol=1e-13)
        np.testing.assert_allclose(found.std, np.sqrt(features.var(0) + 1e-12), rtol=1e-10)
        assert found.minimum.tolist() == features.min(0).tolist()
        assert found.maximum.tolist() == features.max(0).tolist()


def test_a_constant_column_has_1e_6_and_normalises_to_zero():
    """Also where rounding makes its variance negative."""
    for value in (0.0, 0.5, 0.1, 1234.567):
        features = np.full((7, 1), value)
        found = moments_of(features, [0, 3, 7])
        assert np.isfinite(found.std).all()
        if value in (0.0, 0.5):
            assert found.std[0] == 1e-6
        norm = Normalization(0.0, 1.0, found.mean, found.std, found.minimum, found.maximum)
        scale, offset = norm.scale_and_offset(1)
        assert np.abs((features - offset) * scale).max() < 1e-3

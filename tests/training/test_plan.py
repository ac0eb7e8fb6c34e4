"""The plan of an epoch: a function of seed and epoch, with the frequencies and sizes it promises."""

from __future__ import annotations

import numpy as np
import pytest
from potentials import golden

from aenet_ray.errors import TrainingError
from aenet_ray.training.plan import ForceSubset, batches, energy_weights, error_weights, make_policy

POLICIES = ["uniform", "energy_weighted", "error_weighted"]
N = 200


def energies(n: int = N) -> np.ndarray:
    return np.random.default_rng(5).exponential(0.3, n) - 2.0


def policy(name: str, n: int = N):
    return make_policy(name, n, lambda: energies(n))


def test_energy_weights_are_the_known_ones():
    case = golden("sampling_weights")["energy_weighted"]
    weights = energy_weights(np.array(case["referenced_energy_per_atom"]))
    np.testing.assert_allclose(weights, case["weights"], rtol=1e-12)
    np.testing.assert_allclose(weights / weights.sum(), case["probabilities"], rtol=1e-12)
    np.testing.assert_array_equal(energy_weights(np.full(4, -1.3)), np.ones(4))


def test_error_weights_are_the_known_ones():
    case = golden("sampling_weights")["error_weighted"]
    scores = np.array([float(s) for s in case["scores"]])
    np.testing.assert_allclose(error_weights(scores), case["weights"], rtol=1e-12)
    np.testing.assert_array_equal(error_weights(np.zeros(4)), case["all_zero_scores_give"])


@pytest.mark.parametrize("name", POLICIES)
def test_draws_are_a_function_of_seed_and_epoch(name):
    one = policy(name)
    first = one.draw(3, 0)
    assert len(first) == N
    for epoch in (5, 2, 9):
        one.draw(3, epoch)
    np.testing.assert_array_equal(first, one.draw(3, 0))
    np.testing.assert_array_equal(first, policy(name).draw(3, 0))
    assert (first != one.draw(3, 1)).any()
    assert (first != one.draw(4, 0)).any()


def test_uniform_draws_everything_once():
    for epoch in range(3):
        drawn = policy("uniform").draw(1, epoch)
        np.testing.assert_array_equal(np.sort(drawn), np.arange(N))
        assert (drawn != np.arange(N)).any()


@pytest.mark.parametrize("name", POLICIES[1:])
def test_weighted_draws_have_their_frequencies(name):
    """Within four standard deviations of a multinomial, for every structure, and in any place of an epoch."""
    weighted = policy(name, 12)
    if name == "error_weighted":
        weighted.observe(np.arange(12), np.linspace(0.0, 2.2, 12))
        weights = error_weights(np.linspace(0.0, 2.2, 12))
    else:
        weights = energy_weights(energies(12))
    epochs = 3000
    drawn = np.array([weighted.draw(7, epoch) for epoch in range(epochs)])
    p = weights / weights.sum()
    for part in (drawn, drawn[:, :3], drawn[:, -1:]):
        expected = part.size * p
        found = np.bincount(part.ravel(), minlength=12)
        assert (np.abs(found - expected) <= 4 * np.sqrt(part.size * p * (1 - p)) + 1e-9).all()


def test_error_scores_are_means_over_draws():
    one = policy("error_weighted", 5)
    np.testing.assert_array_equal(one.state(), np.ones(5))
    one.observe(np.array([2, 0, 2, 4, 4, 3]), np.array([0.1, 0.5, 0.3, np.nan, 0.2, -1.0]))
    np.testing.assert_allclose(one.state(), [0.5, 1.0, 0.2, 1.0, 0.2])  # not drawn, and only bad errors: as before
    one.observe(np.array([0]), np.array([0.0]))
    np.testing.assert_allclose(one.state(), [0.0, 1.0, 0.2, 1.0, 0.2])
    assert one.weights[0] > 0


@pytest.mark.parametrize("name", POLICIES)
def test_a_restored_policy_draws_the_same(name):
    one, other = policy(name), policy(name)
    for epoch in range(3):
        drawn = one.draw(11, epoch)
        one.observe(drawn, np.abs(np.sin(drawn + epoch)))
    state = one.state()
    other.restore(None if state is None else state.copy())
    np.testing.assert_array_equal(one.draw(11, 3), other.draw(11, 3))
    if name == "error_weighted":
        assert (policy(name).draw(11, 3) != one.draw(11, 3)).any(), "scores change the draws"


def test_scores_of_other_data_are_refused():
    with pytest.raises(TrainingError, match="has 3 scores for 200 training structures"):
        policy("error_weighted").restore(np.ones(3))
    with pytest.raises(TrainingError, match="has none scores"):
        policy("error_weighted").restore(None)


def labelled(n: int = 60) -> np.ndarray:
    """Two of three structures have forces."""
    return np.arange(n) % 3 != 0


@pytest.mark.parametrize(
    ("fraction", "minimum", "expected"),
    [
        (1.0, 1, 40),
        (0.5, 1, 20),
        (0.49, 1, 19),  # int(), not rounding
        (0.01, 1, 1),
        (0.01, 3, 3),
        (0.0, 1, 1),
        (0.0, 0, 0),
        (0.0, None, 0),
        (0.1, None, 4),
        (0.3, 100, 40),
    ],
)
def test_force_subset_sizes(fraction, minimum, expected):
    subset = ForceSubset(labelled(), fraction, minimum, "random", 0)
    selected = subset.draw(1, 0)
    assert selected.sum() == subset.size() == expected
    assert not selected[~labelled()].any()


def test_force_subsets_without_labels_are_empty():
    for fraction in (0.3, 1.0):
        assert not ForceSubset(np.zeros(8, dtype=bool), fraction, 1, "random", 2).draw(1, 0).any()


def test_force_subset_windows():
    """random with R: a new subset every R epochs; fixed, or R = 0: the first one for ever."""

    def subsets(sampling: str, resample: int) -> list[bytes]:
        subset = ForceSubset(labelled(), 0.5, 1, sampling, resample)
        return [subset.draw(9, epoch).tobytes() for epoch in range(9)]

    every_three = subsets("random", 3)
    assert [len(set(every_three[k : k + 3])) for k in (0, 3, 6)] == [1, 1, 1]
    assert len(set(every_three)) == 3
    assert len(set(subsets("random", 1))) == 9
    assert len(set(subsets("random", 0))) == 1
    assert len(set(subsets("fixed", 3))) == 1
    other_seed = ForceSubset(labelled(), 0.5, 1, "random", 3).draw(10, 0).tobytes()
    assert other_seed != every_three[0]


def test_force_subsets_and_order_are_independent_streams():
    """All labelled structures are selected equally often over windows, whatever the order of the epoch."""
    subset = ForceSubset(labelled(), 0.25, 1, "random", 1)
    counts = np.sum([subset.draw(2, epoch) for epoch in range(2000)], axis=0)
    expected = 2000 * 0.25
    assert (np.abs(counts[labelled()] - expected) < 4.5 * np.sqrt(expected * 0.75)).all()


def test_batches_cover_the_draws_in_order():
    drawn = policy("uniform").draw(1, 0)
    parts = list(batches(drawn, 48))
    np.testing.assert_array_equal(np.concatenate([drawn[p] for p in parts]), drawn)
    assert [p.stop - p.start for p in parts] == [48, 48, 48, 48, 8]
    assert list(batches(drawn[:0], 48)) == []

"""Training a committee: one split, one store of features, seeds as planned, results, folders that move."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from committees import ARCH, committee_of, descriptor, strict_json, training, untrained, weights

from aenet_ray import RunConfig, TorchANNPotential, TorchCommitteePotential, TorchCommitteeTrainResult


@pytest.fixture(scope="module")
def trained(structures, tmp_path_factory):
    """Three members with forces, trained here one after the other."""
    folder = tmp_path_factory.mktemp("committee") / "run"
    committee = untrained()
    result = committee.train(structures, config=training(force_weight=0.2), committee_config=committee_of(3, folder))
    return committee, result


def test_layout(trained):
    _, result = trained
    names = sorted(p.name for p in result.output_dir.iterdir())
    expected = ["committee_metadata.json", "features", "member_000", "member_001", "member_002", "structures.h5"]
    assert names == expected
    for name in ("model.pt", "history.json", "history.csv", "summary.json"):
        assert (result.output_dir / "member_001" / name).is_file()
    assert (result.output_dir / "member_001/checkpoints/checkpoint_epoch_0001.pt").is_file()
    assert len(list((result.output_dir / "features").glob("[!.]*/"))) == 1, "one store of features for all"


def test_members_share_the_split_and_differ_in_their_seeds(trained):
    _, result = trained
    assert [(m.member_index, m.seed, m.split_seed, m.status) for m in result.members] == [
        (i, 7 + i, 7, "completed") for i in range(3)
    ]
    splits = [np.load(m.member_dir / "split.npz") for m in result.members]
    assert len(splits[0]["test"]) == 4
    for split in splits[1:]:
        assert all(np.array_equal(split[k], splits[0][k]) for k in ("train", "test"))
    starts = [torch.load(m.member_dir / "initial.pt", weights_only=True) for m in result.members]
    assert not any(torch.equal(a, b) for a, b in zip(starts[0].values(), starts[1].values(), strict=True))
    meta = TorchANNPotential.from_file(result.members[2].model_path).metadata["extra_metadata"]
    assert meta == {"committee_member_index": 2, "committee_seed": 9, "committee_split_seed": 7}


def test_a_member_is_the_potential_that_its_seed_gives_alone(trained, structures, tmp_path):
    _, result = trained
    alone = TorchANNPotential(ARCH, descriptor())
    run = RunConfig(name="alone", storage_path=str(tmp_path))
    alone.train(structures, config=training(force_weight=0.2, seed=8, split_seed=7), run=run)
    assert torch.equal(weights(tmp_path / "alone/model.pt"), weights(result.members[1].model_path))


def test_metadata_is_valid_json_with_relative_paths(trained):
    _, result = trained
    text = result.metadata_path.read_text()
    values = strict_json(result.metadata_path)
    assert (values["schema_version"], values["execution_mode"], values["output_dir"]) == ("1.0", "sequential", ".")
    assert values["committee_config"]["num_members"] == 3
    assert values["training_config"]["method"]["name"] == "adam"
    assert values["members"][1]["model_path"] == "member_001/model.pt"
    assert values["members"][1]["checkpoint_dir"] == "member_001/checkpoints"
    assert values["failures"] == []
    assert text.count(str(result.output_dir)) == 1, "only what the user gave as output_dir"
    summary = strict_json(result.output_dir / "member_001/summary.json")
    assert summary["member_index"] == 1
    assert str(result.output_dir) not in json.dumps(summary)


def test_numbers_that_are_none_are_null(structures, tmp_path):
    config = training(iterations=1, testpercent=0, checkpoint_dir=None)
    result = untrained().train(structures[:4], config=config, committee_config=committee_of(1, tmp_path / "one"))
    entry = strict_json(result.metadata_path)["members"][0]
    assert entry["metrics"]["final_RMSE_test"] is entry["metrics"]["best_val_loss"] is None
    assert entry["checkpoint_dir"] is None
    assert np.isnan(TorchCommitteeTrainResult.from_directory(tmp_path / "one").members[0].metrics["final_RMSE_test"])


def test_result(trained):
    _, result = trained
    table = result.to_dataframe()
    assert list(table["seed"]) == [7, 8, 9]
    assert Path(table["model_path"][0]).is_file()
    final = [out.stats["final_RMSE_train"] for out in result.trainouts]
    assert list(table["final_RMSE_train"]) == final
    stats = result.stats["final_RMSE_train"]
    assert stats["mean"] == pytest.approx(np.mean(final))
    assert stats["std"] == pytest.approx(np.std(final))
    assert (stats["n"], stats["min"], stats["max"]) == (3, min(final), max(final))
    assert result.stats["epochs_recorded"]["mean"] == 2
    assert result.trainouts[1].has_force_data
    head, *lines = str(result).splitlines()[1:]
    assert head.split() == ["mean", "±", "spread", "of", "members", "meV/atom,", "forces", "meV/Å"]
    assert f"  final_RMSE_train         {1000 * stats['mean']:8.2f} ± {1000 * stats['std']:.2f}" in lines
    assert any(x.startswith("  final_RMSE_force_test ") for x in lines)
    assert len(result.completed_members) == 3
    assert not result.failed_members


def test_a_moved_folder_loads(trained, structures, tmp_path):
    """The reference writes absolute paths: a moved committee cannot be read there."""
    committee, result = trained
    moved = tmp_path / "elsewhere"
    shutil.copytree(result.output_dir, moved)
    hidden = result.output_dir.with_name("hidden")
    result.output_dir.rename(hidden)
    try:
        for path in (moved, moved / "committee_metadata.json"):
            read = TorchCommitteePotential.from_directory(path)
            assert np.array_equal(read.predict(structures).energy, committee.predict(structures).energy)
        assert TorchCommitteeTrainResult.from_directory(moved).trainouts[0].stats
    finally:
        hidden.rename(result.output_dir)


def test_metadata_with_absolute_paths_as_aenet_python_writes_them(trained, tmp_path):
    """Found beside the metadata when the folder has moved; the stored place is the last resort."""
    _, result = trained
    moved = tmp_path / "moved"
    shutil.copytree(result.output_dir, moved)
    values = strict_json(moved / "committee_metadata.json")
    paths = ("member_dir", "model_path", "history_json_path", "history_csv_path", "summary_path", "checkpoint_dir")
    for member in values["members"]:
        member |= {key: f"/gone/away/committee_run/{member[key]}" for key in paths}
    values["output_dir"] = "/gone/away/committee_run"
    (moved / "committee_metadata.json").write_text(json.dumps(values))
    assert TorchCommitteePotential.from_directory(moved).num_members == 3
    for member in values["members"]:
        member["member_dir"] = str(result.output_dir / Path(member["member_dir"]).name)
    (tmp_path / "alone.json").write_text(json.dumps(values))
    assert TorchCommitteePotential.from_directory(tmp_path / "alone.json").num_members == 3


def test_given_parts_stay_as_given(structures, tmp_path):
    result = untrained().train(
        train_dataset=structures[:5],
        test_dataset=structures[5:8],
        config=training(iterations=1),
        committee_config=committee_of(2, tmp_path / "run"),
    )
    for member in result.members:
        split = np.load(member.member_dir / "split.npz")
        assert (split["train"].tolist(), split["test"].tolist()) == ([0, 1, 2, 3, 4], [5, 6, 7])


def test_zero_epochs(structures, tmp_path):
    committee, config = untrained(), training(iterations=0)
    result = committee.train(structures, config=config, committee_config=committee_of(2, tmp_path / "run"))
    assert result.members[0].metrics["epochs_recorded"] == 0
    assert (committee.predict(structures).energy_std > 0).all()


def test_a_named_run_lies_beside_other_runs_and_shares_their_features(structures, tmp_path):
    run = RunConfig(name="eight", storage_path=str(tmp_path / "runs"))
    committee = committee_of(1, tmp_path, output_dir=None)
    result = untrained().train(structures, config=training(iterations=1), committee_config=committee, run=run)
    assert result.output_dir == tmp_path / "runs/eight"
    assert len(list((tmp_path / "runs/features").glob("[!.]*/"))) == 1

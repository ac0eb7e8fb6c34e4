"""Featurization on Ray gives what it gives in process, and survives kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import DescriptorError
from aenet_ray.features import shards as module
from aenet_ray.features.featurize import featurize, in_process
from aenet_ray.features.shards import missing_shards, plan_shards
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import StructureStore, write_store

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


class Slow(ChebyshevDescriptor):
    """Takes its time over a shard, and says which process it runs in."""

    def features(self, *arguments: Any, **options: Any) -> Any:
        if folder := os.environ.get("SLOW_PIDS") or getattr(self, "pids", None):
            (Path(folder) / str(os.getpid())).touch()
        time.sleep(0.4)
        return super().features(*arguments, **options)


class Broken(ChebyshevDescriptor):
    def features(self, *arguments: Any, **options: Any) -> Any:
        raise DescriptorError("structure 7: broken on purpose, mend it: like this")


def by_value() -> None:
    """Actors cannot import this file."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])


def descriptor(kind: type[ChebyshevDescriptor] = ChebyshevDescriptor) -> ChebyshevDescriptor:
    return kind(["Ti", "O"], 5, 4.5, 3, 3.5)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> StructureStore:
    path = tmp_path_factory.mktemp("store") / "tio2.h5"
    structures = islice(read_structures(data_dir / "tio2_ci100_xsf.tar.gz"), 40)
    return StructureStore(write_store(structures, path, progress=False).path)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dozen shards of a few structures each."""
    monkeypatch.setattr(module, "SHARD_BYTES", 12 << 10)


def content(entry: Path) -> dict[str, np.ndarray]:
    return {str(p.relative_to(entry)): np.load(p) for p in sorted(entry.rglob("*.npy"))}


def assert_same(found: Path, expected: Path) -> None:
    a, b = content(found), content(expected)
    assert a.keys() == b.keys()
    for name in b:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def quick(store: StructureStore, folder: Path) -> Path:
    return featurize(store, descriptor(), folder, run=in_process, progress=False)


@pytest.mark.usefixtures("ray_local", "small_shards")
class TestOnRay:
    def run(self, store: StructureStore, d: ChebyshevDescriptor, folder: Path, n_actors: int | None = 2) -> Path:
        from aenet_ray.features.pipeline import on_ray

        by_value()
        return featurize(store, d, folder, run=on_ray(n_actors), progress=False)

    def test_same_as_in_process_and_again_nothing(self, store: StructureStore, tmp_path: Path) -> None:
        shards = plan_shards(store, descriptor().n_features, "float64")
        assert len(shards) > 5
        counted: list[int] = []
        from aenet_ray.features.pipeline import on_ray

        def run(*arguments: Any) -> None:
            done: Callable[[int], None] = arguments[-1]
            on_ray(2)(*arguments[:-1], lambda n: (counted.append(n), done(n))[1])

        entry = featurize(store, descriptor(), tmp_path / "ray", run=run, progress=False)
        assert_same(entry, quick(store, tmp_path / "here"))
        assert sorted(counted) == sorted(s.stop - s.start for s in shards)
        featurize(store, descriptor(), tmp_path / "ray", run=run, progress=False)
        assert len(counted) == len(shards)

    def test_only_missing_and_damaged_shards_are_made(self, store: StructureStore, tmp_path: Path) -> None:
        expected = quick(store, tmp_path / "here")
        entry = quick(store, tmp_path / "ray")
        record = {p.parent.name: p.stat().st_mtime_ns for p in entry.glob("*/record.json")}
        (entry / "shard_000002" / "record.json").unlink()
        with (entry / "shard_000004" / "features.npy").open("r+b") as file:
            file.seek(-8, os.SEEK_END)
            file.write(b"damaged!")
        self.run(store, descriptor(), tmp_path / "ray", None)
        assert_same(entry, expected)
        after = {p.parent.name: p.stat().st_mtime_ns for p in entry.glob("*/record.json")}
        assert {n for n in after if after[n] != record[n]} == {"shard_000002", "shard_000004"}

    def test_an_actor_that_dies_is_replaced(self, store: StructureStore, tmp_path: Path) -> None:
        pids, slow = tmp_path / "pids", descriptor(Slow)
        pids.mkdir()
        slow.pids = str(pids)  # type: ignore[attr-defined]
        killed: list[int] = []

        def kill() -> None:
            while not (found := list(pids.iterdir())):
                time.sleep(0.01)
            killed.append(int(found[0].name))
            os.kill(killed[0], signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        entry = self.run(store, slow, tmp_path / "ray")
        thread.join()
        assert killed
        assert killed[0] != os.getpid()
        assert len(list(pids.iterdir())) > 2
        assert_same(entry, quick(store, tmp_path / "here"))

    def test_an_error_on_purpose_comes_through(self, store: StructureStore, tmp_path: Path) -> None:
        with pytest.raises(DescriptorError) as caught:
            self.run(store, descriptor(Broken), tmp_path / "ray")
        assert str(caught.value) == "structure 7: broken on purpose, mend it: like this"
        assert type(caught.value) is DescriptorError

    def test_what_the_caller_handles_keeps_its_traceback(self, store: StructureStore, tmp_path: Path) -> None:
        def fails() -> None:
            raise KeyError("of the caller's own")

        def featurizes_while_it_handles() -> None:
            try:
                fails()
            except KeyError:
                with pytest.raises(DescriptorError):
                    self.run(store, descriptor(Broken), tmp_path / "ray")
                raise

        with pytest.raises(KeyError) as own:
            featurizes_while_it_handles()
        assert own.traceback[-1].name == "fails"


@pytest.mark.fault
@pytest.mark.usefixtures("small_shards")
def test_a_killed_driver_is_finished_by_the_next(store: StructureStore, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import test_pipeline as t\n"
        "from aenet_ray.features.pipeline import on_ray\n"
        f"t.module.SHARD_BYTES = {module.SHARD_BYTES}\n"
        "t.by_value()\n"
        f"store = t.StructureStore({str(store.path)!r})\n"
        f"t.featurize(store, t.descriptor(t.Slow), {str(tmp_path / 'ray')!r}, run=on_ray(1), progress=False)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"SLOW_PIDS": str(tmp_path)})
    deadline = time.monotonic() + 90
    while len(made := list((tmp_path / "ray").glob("*/shard_*/record.json"))) < 2:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    time.sleep(2.0)  # its actor notices
    entry = made[0].parent.parent
    shards = plan_shards(store, descriptor().n_features, "float64")
    assert 0 < len(missing_shards(entry, shards)) < len(shards)
    assert not (entry / "index.json").exists()
    kept = {p: p.stat().st_mtime_ns for p in entry.glob("shard_*/record.json")}
    assert quick(store, tmp_path / "ray") == entry
    assert_same(entry, quick(store, tmp_path / "here"))
    assert {p: p.stat().st_mtime_ns for p in kept} == kept

"""Featurization with Ray Data: read tasks on the store, a pool of actors, shards written where they are made.

Read tasks cut the store into the ranges of the missing shards, actors featurize a range and put its shard in place,
and only a small record comes back. Which shards there are, how one is made and what is missing after a kill is
decided in ``featurize.py`` and ``shards.py``, where the same functions run without Ray.
"""

from __future__ import annotations

import logging
import math
import re
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
import ray.exceptions

from aenet_ray import errors
from aenet_ray.errors import AenetRayError, StoreError
from aenet_ray.features.arrow_blocks import from_table
from aenet_ray.features.datasource import StructureRanges
from aenet_ray.features.featurize import ShardRunner
from aenet_ray.features.shards import Shard, missing_shards, write_shard
from aenet_ray.ray_session import ensure_ray, free_resources, let_go
from aenet_ray.structures.store import StructureStore
from aenet_ray.waiting import saying

logger = logging.getLogger(__name__)

# A pool that takes every processor starves the tasks that feed it, and the pipeline waits for ever without a word:
# nine tenths of a processor for featurizing, one for reading.
ACTOR_CPUS = 0.9
READ_CPUS = 0.1
# Reading is many times faster than featurizing, and every task in flight is a process to start.
ACTORS_PER_READER = 4
ATTEMPTS = 3
# A dead actor ends the attempt, and the next makes what is missing. Actors that Ray restarts by itself each print an
# error about it in advance.
NO_RESTARTS: dict[str, Any] = {"max_restarts": 0}


class Featurizer:
    """An actor of the pool: tables of structures in, shards on disk, records out."""

    def __init__(self, entry: str, descriptor: Any, dtype: str, shards: Sequence[Shard]) -> None:
        self._entry, self._descriptor, self._dtype = Path(entry), descriptor, dtype
        self._shards = {s.start: s for s in shards}

    def __call__(self, table: pa.Table) -> pa.Table:
        block, shard = from_table(table), self._shards[table["start"][0].as_py()]
        if block.n_structures != shard.stop - shard.start:
            raise StoreError(
                f"{self._entry / shard.name}: {block.n_structures} structures came from Ray, expected "
                f"{shard.stop - shard.start}."
            )
        write_shard(block, shard, self._entry, self._descriptor, self._dtype)
        return pa.table({"start": [shard.start], "n_structures": [block.n_structures]})


def on_ray(n_actors: int | None = None) -> ShardRunner:
    """How ``featurize`` makes missing shards with Ray Data.

    Connects to a running Ray, or starts a local one for the time being.

    Args:
        n_actors: Size of the pool; None: one actor for each processor of the cluster. Never more than there are
            shards, or than the cluster has processors for.
    """

    def run(
        store: StructureStore,
        entry: Path,
        descriptor: Any,
        dtype: str,
        shards: Sequence[Shard],
        done: Callable[[int], None],
    ) -> None:
        left, counted, handled = list(shards), set[int](), sys.exc_info()[1]

        def count(start: int, n_structures: int) -> None:
            if start not in counted:
                counted.add(start)
                done(n_structures)

        with ensure_ray(None if n_actors is None else min(n_actors, len(shards))) as session:
            for attempt in range(1, ATTEMPTS + 1):
                size = int(min(n_actors or math.inf, max(1, session.cpus), len(left)))
                try:
                    with closing(_records(store, entry, descriptor, dtype, left, size)) as records:
                        for record in records:
                            count(record["start"], record["n_structures"])
                    return
                except Exception as error:
                    let_go(error, handled)
                    raised = isinstance(error, (ray.exceptions.RayTaskError, ray.exceptions.UserCodeException))
                    if raised or attempt == ATTEMPTS:
                        raise plain_error(error, f"{entry}: featurization on Ray failed") from error
                    left = missing_shards(entry, shards)
                    logger.warning(
                        "featurization: a worker died (%s); %d of %d shards are left, going on",
                        type(error).__name__,
                        len(left),
                        len(shards),
                    )
                for shard in shards:
                    if shard not in left:
                        count(shard.start, shard.stop - shard.start)
                if not left:
                    return

    return run


def _records(
    store: StructureStore, entry: Path, descriptor: Any, dtype: str, shards: Sequence[Shard], size: int
) -> Generator[dict[str, Any], None, None]:
    """Make shards with a pool of ``size`` actors; yields a record of each as it is done, in any order."""
    with data_settings():
        dataset = ray.data.read_datasource(
            StructureRanges(store, [(s.start, s.stop) for s in shards]),
            num_cpus=READ_CPUS,
            compute=ray.data.TaskPoolStrategy(size=-(-size // ACTORS_PER_READER)),
            override_num_blocks=len(shards),
        ).map_batches(
            Featurizer,
            fn_constructor_args=(str(entry), descriptor, dtype, shards),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=size),
            num_cpus=ACTOR_CPUS,
            **NO_RESTARTS,
        )
        yield from said(dataset.iter_rows(), f"the next shard of {size} featurizing actors")


def said(rows: Iterable[dict[str, Any]], what: str) -> Iterator[dict[str, Any]]:
    """The rows of a pipeline; what is waited for is said where they are long in coming."""
    with saying(lambda: f"{what}; free for them: {free_resources()}") as came:
        for row in rows:
            came()
            yield row


@contextmanager
def data_settings(block_bytes: int | None = None) -> Iterator[None]:
    """Ray Data's defaults, but silent.

    Args:
        block_bytes: Size at which tables are cut; None: neither cut nor joined.
    """
    with warnings.catch_warnings():
        # Deprecated: actor options as keywords, the only way yet to say max_restarts, and what copying settings reads.
        warnings.simplefilter("ignore", DeprecationWarning)
        context = ray.data.DataContext.get_current().copy()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.target_max_block_size = block_bytes
        with ray.data.DataContext.current(context):
            yield


def plain_error(error: Exception, what: str) -> AenetRayError:
    """What an actor or a reader raised: only its traceback as text survives Ray's wrappings.

    Args:
        what: Failed, for errors that are none of ours.
    """
    text = str(error)
    for kind, message in re.findall(r"^aenet_ray\.errors\.(\w+): (.*)$", text, re.MULTILINE):
        return getattr(errors, kind)(message)
    raised = re.findall(r"^(?!ray\.)([\w.]+(?:Error|Exception)\b.*)$", text, re.MULTILINE)
    reason = raised[0] if raised else f"{type(error).__name__}: {text.strip() or 'no message'}"
    return StoreError(f"{what}: {reason}")

"""Selection with Ray Data: read tasks that cut the candidates, a pool of actors that hold the committee.

What a chunk is, how it is scored and what is kept of it is decided in the other files here, where the same functions
run without Ray.
"""

from __future__ import annotations

import logging
import math
import pickle
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pyarrow as pa
import ray
import ray.data
import ray.exceptions

from aenet_ray.features.pipeline import (
    ACTOR_CPUS,
    ATTEMPTS,
    NO_RESTARTS,
    READ_CPUS,
    data_settings,
    plain_error,
    said,
)
from aenet_ray.ray_session import ensure_ray, let_go
from aenet_ray.selection.candidates import Source, chunks_left
from aenet_ray.selection.datasource import CandidateChunks
from aenet_ray.selection.journal import Journal
from aenet_ray.selection.run import Runner, Scores
from aenet_ray.selection.score import Scorer

logger = logging.getLogger(__name__)


class ScoringActor:
    """An actor of the pool: chunks in, the few structures worth keeping out."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer.one_thread()

    def __call__(self, table: pa.Table) -> pa.Table:
        scored = [self._scorer(pickle.loads(row.as_py())) for row in table["chunk"]]
        return pa.table({"scored": pa.array([pickle.dumps(s) for s in scored], pa.large_binary())})


def on_ray(n_actors: int) -> Runner:
    """How chunks are scored with a pool of actors, on a running Ray or a local one for the time being.

    Args:
        n_actors: Never more than the cluster has processors for, or than there are chunks of a store or of structures
            in memory.
    """

    def run(scorer: Scorer, sources: Sequence[Source], journal: Journal) -> Scores:
        handled = sys.exc_info()[1]
        useful = max(1, chunks_left(sources, journal.done, n_actors))
        with ensure_ray(useful) as session:
            size = int(min(useful, max(1, session.cpus)))
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    with closing(_scored(scorer, sources, journal, size)) as scored:
                        yield from scored
                    return
                except Exception as error:
                    let_go(error, handled)
                    raised = isinstance(error, (ray.exceptions.RayTaskError, ray.exceptions.UserCodeException))
                    if raised or attempt == ATTEMPTS:
                        raise plain_error(error, "selection on Ray failed") from error
                    logger.warning(
                        "selection: a worker died (%s); %d chunks are done, going on",
                        type(error).__name__,
                        len(journal.done),
                    )

    return run


def _scored(scorer: Scorer, sources: Sequence[Source], journal: Journal, size: int) -> Scores:
    with data_settings(block_bytes=1):  # a chunk a block
        dataset = ray.data.read_datasource(
            CandidateChunks(sources, journal.done),
            num_cpus=READ_CPUS,
            compute=ray.data.TaskPoolStrategy(size=max(1, math.ceil(size / 4))),
            override_num_blocks=len(sources),
        ).map_batches(
            ScoringActor,
            fn_constructor_args=(scorer,),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=size),
            num_cpus=ACTOR_CPUS,
            **NO_RESTARTS,
        )
        for row in said(dataset.iter_rows(), f"the next candidates of {size} scoring actors"):
            found: Any = pickle.loads(row["scored"])
            yield found

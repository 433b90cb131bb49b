"""Evaluation during training, by the published protocol."""

import dataclasses
from typing import Any

import jax
import numpy as np

from realsr_jax.data.training_pairs import TrainingPair, TrainingPairs
from realsr_jax.evaluate import protocols
from realsr_jax.models.network import ModelConfig
from realsr_jax.upscaling.upscaler import Upscaler

_MOST_SAMPLES = 4
_SAMPLE_SIZE = 256


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What an evaluation found.

    Attributes:
        score: the protocol's headline figure; more is better.
        values: means of all figures over the images, and the score.
        samples: by image name, uint8 [h, 2*w, 3]: the middle of the result beside that of the HR image.
    """

    score: float
    values: dict[str, float]
    samples: dict[str, np.ndarray]


class Validation:
    """Scores parameters on images; every host upscales its part of them."""

    def __init__(self, config: ModelConfig, pairs: TrainingPairs, *, protocol: str, dtype: str):
        """Prepares to evaluate a network by a protocol of `protocols.Protocol`."""
        self._config = config
        self._pairs = pairs
        self._protocol = protocol
        self._dtype = dtype
        self._upscaler: Upscaler | None = None

    def __call__(self, params: Any) -> Outcome:
        """Evaluates parameters, NumPy arrays."""
        if self._upscaler is None:
            self._upscaler = Upscaler(self._config, params, dtype=self._dtype)
            self._upscaler.prepare(map(tuple, self._pairs.sizes.tolist()))
        self._upscaler.set_params(params)
        indices = range(jax.process_index(), len(self._pairs), jax.process_count())
        scores, samples = [], {}
        for index in indices:
            pair = self._pairs[index]
            sr = protocols.to_8_bit(self._upscaler(pair.lr))
            scores.append(protocols.score(sr, pair.hr, scale=self._config.scale, protocol=self._protocol))
            if len(samples) < _MOST_SAMPLES:
                samples[pair.name.rsplit("/", 1)[-1]] = _side_by_side(sr, pair)
        mean = protocols.mean_scores(_from_all_hosts(scores, len(self._pairs)))
        score = protocols.headline(mean, self._protocol)
        return Outcome(score, {"score": score, **dataclasses.asdict(mean)}, samples)


def _from_all_hosts(scores: list[protocols.Scores], n_images: int) -> list[protocols.Scores]:
    """Gathers what each host found, in the order of the hosts."""
    if jax.process_count() == 1:
        return scores
    from jax.experimental import multihost_utils

    most = -(-n_images // jax.process_count())
    rows = np.full((most, len(dataclasses.fields(protocols.Scores))), np.nan)
    for row, each in zip(rows, scores, strict=False):
        row[:] = dataclasses.astuple(each)
    # As bits: collectives would make float32 of float64.
    gathered = multihost_utils.process_allgather(rows.view(np.uint32))
    table = np.asarray(gathered).view(np.float64).reshape(-1, rows.shape[1])
    return [protocols.Scores(*map(float, row)) for row in table if not np.isnan(row).all()]


def _side_by_side(sr: np.ndarray, pair: TrainingPair) -> np.ndarray:
    height, width = (min(_SAMPLE_SIZE, side) for side in sr.shape[:2])
    top, left = (sr.shape[0] - height) // 2, (sr.shape[1] - width) // 2
    middle = slice(top, top + height), slice(left, left + width)
    return np.concatenate([sr[middle], pair.hr[middle]], axis=1)

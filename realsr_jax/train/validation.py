"""Evaluation during training, by the published protocol."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from realsr_jax.data.pair_reading import in_bits
from realsr_jax.data.training_pairs import TrainingPair, TrainingPairs
from realsr_jax.evaluate import protocols
from realsr_jax.models.network import ModelConfig
from realsr_jax.system.terminal import Progress
from realsr_jax.upscaling.upscaler import BicubicUpscaler, ImageUpscaler, Upscaler

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
    """Scores parameters on images; every host upscales its part of them.

    Attributes:
        protocol: the rules.
        n_images: how many are scored.
    """

    def __init__(
        self,
        config: ModelConfig,
        pairs: TrainingPairs,
        *,
        protocol: str,
        dtype: str,
        say: Callable[[str], None],
    ):
        """Prepares to evaluate a network by a protocol of `protocols.Protocol`; `say` tells how far it is."""
        self.protocol = protocols.Protocol(protocol)
        self.n_images = len(pairs)
        self._config = config
        self._pairs = pairs
        self._dtype = dtype
        self._say = say
        self._upscaler: Upscaler | None = None

    def __call__(self, params: Any) -> Outcome:
        """Evaluates parameters, NumPy arrays."""
        if self._upscaler is None:
            self._upscaler = Upscaler(self._config, params, dtype=self._dtype)
            self._upscaler.prepare(map(tuple, self._pairs.sizes.tolist()))
        self._upscaler.set_params(params)
        return self._evaluate(self._upscaler)

    def score_bicubic(self) -> float:
        """Returns the score of plain interpolation, by the same rules."""
        upscaler = BicubicUpscaler(self._config.scale)
        upscaler.prepare(map(tuple, self._pairs.sizes.tolist()))
        return self._evaluate(upscaler).score

    def _evaluate(self, upscaler: ImageUpscaler) -> Outcome:
        indices = range(jax.process_index(), len(self._pairs), jax.process_count())
        scores, samples = [], {}
        with Progress("evaluating", "images", tell=self._say) as progress:
            for index in progress.each(iter(indices), len(indices)):
                pair = self._pairs[index]
                sr = protocols.to_8_bit(upscaler.upscale(pair.lr, np.float32))
                scores.append(self._score(sr, pair))
                if len(samples) < _MOST_SAMPLES:
                    samples[pair.name.rsplit("/", 1)[-1]] = _side_by_side(sr, pair)
        mean = protocols.mean_scores(_from_all_hosts(scores, len(self._pairs)))
        score = protocols.headline(mean, self.protocol)
        return Outcome(score, {"score": score, **dataclasses.asdict(mean)}, samples)

    def _score(self, sr: np.ndarray, pair: TrainingPair) -> protocols.Scores:
        try:
            hr = in_bits(pair.hr, np.uint8)
            return protocols.score(sr, hr, scale=self._config.scale, protocol=self.protocol)
        except ValueError as error:
            raise ValueError(f"{pair.name}: {error}") from error


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
    return np.concatenate([sr[middle], in_bits(pair.hr[middle], np.uint8)], axis=1)

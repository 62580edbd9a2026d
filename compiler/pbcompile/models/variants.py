"""The loaded model computed with a mistake in it, for telling which mistake an artifact holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pbcompile.models.loaded import LoadedModel

EPSILONS = (1e-3, 1e-5, 1e-4, 1e-2, 1e-6, 1.001e-5, 2e-5, 1.1e-5)
"""Batch norm epsilons that libraries and model families use: Keras 1e-3, PyTorch 1e-5, and those of known ports."""

Call = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def mistaken_calls(model: LoadedModel) -> Iterator[tuple[str, Call]]:
    """Each mistake in words, with a function like `model.predict` that makes it; none for a SavedModel."""
    if model.kind != "keras":
        return
    keras_model: Any = model.keep_alive
    norms = [layer for layer in keras_model._flatten_layers() if hasattr(layer, "moving_variance")]
    if not norms:
        return

    def train(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        kept = [variable.numpy() for variable in keras_model.non_trainable_variables]
        try:
            given = [feeds[tensor.name] for tensor in model.inputs]
            answers = keras_model(given if len(given) > 1 else given[0], training=True)
        finally:
            for variable, value in zip(keras_model.non_trainable_variables, kept, strict=True):
                variable.assign(value)
        return dict(zip((t.name for t in model.outputs), map(_array, _flat(answers)), strict=True))

    yield "the model runs in training mode: batch norms use the batch's own statistics", train
    for epsilon in EPSILONS:

        def other(feeds: Mapping[str, Any], epsilon: float = epsilon) -> Mapping[str, Any]:
            kept = [norm.epsilon for norm in norms]
            try:
                for norm in norms:
                    norm.epsilon = epsilon
                return model.predict(feeds)
            finally:
                for norm, value in zip(norms, kept, strict=True):
                    norm.epsilon = value

        own = sorted({norm.epsilon for norm in norms})
        if own != [epsilon]:
            yield f"batch norms computed with epsilon {epsilon:g}, not {', '.join(f'{e:g}' for e in own)}", other


def _flat(answers: Any) -> list[Any]:
    import tensorflow as tf

    return list(tf.nest.flatten(answers))


def _array(value: Any) -> Any:
    import numpy as np

    return np.asarray(value)

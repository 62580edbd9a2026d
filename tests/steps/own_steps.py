"""A user's own steps, for the tests of Python: what the spec names, and what goes wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf


def gamma(x: Any) -> Any:
    return tf.pow(tf.cast(x, tf.float32) / 255.0, 2.2)


def gamma_reference(x: np.ndarray) -> np.ndarray:
    return (x.astype(np.float32) / 255.0) ** np.float32(2.2)


def other_gamma_reference(x: np.ndarray) -> np.ndarray:
    return (x.astype(np.float32) / 255.0) ** np.float32(2.0)


def largest(x: Any) -> Any:
    return tf.reduce_max(x, axis=1, keepdims=True)


def largest_reference(x: np.ndarray) -> np.ndarray:
    return x.max(axis=1, keepdims=True)


def in_python(x: Any) -> Any:
    return tf.numpy_function(lambda a: a, [x], x.dtype)


def random(x: Any) -> Any:
    return x + tf.random.uniform(tf.shape(x))


def a_number(x: Any) -> Any:
    return 3


NUMBER = 3

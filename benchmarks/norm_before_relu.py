"""How long does what is left of a batch norm before a ReLU take, in each form that a graph can give it?

    python benchmarks/norm_before_relu.py [--seconds 0.25] [--threads 2]

Six in a row in one graph, fed one image; smallest call of all rounds, the forms in turn, µs for one of the six.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

REPEATS, ROUNDS = 6, 5
SHAPES = ((112, 64), (56, 64), (56, 256), (28, 128), (28, 512), (14, 256), (14, 1024), (7, 512), (7, 1024), (7, 2048))


def three_ops(x: tf.Tensor, scale: Any, shift: Any) -> tf.Tensor:
    return tf.nn.relu(x * scale + shift)


def depthwise(x: tf.Tensor, scale: Any, shift: Any) -> tf.Tensor:
    scaled = tf.compat.v1.nn.depthwise_conv2d_native(x, scale.reshape(1, 1, -1, 1), [1, 1, 1, 1], "VALID")
    return tf.nn.relu(tf.nn.bias_add(scaled, shift))


def batch_norm(x: tf.Tensor, scale: Any, shift: Any) -> tf.Tensor:
    still = {"mean": np.zeros_like(scale), "variance": np.ones_like(scale), "epsilon": 0.0, "is_training": False}
    return tf.nn.relu(tf.compat.v1.nn.fused_batch_norm(x, scale, shift, **still)[0])


FORMS = {
    "Mul, AddV2, Relu": three_ops,
    "1x1 depthwise, BiasAdd, Relu": depthwise,
    "FusedBatchNormV3, Relu": batch_norm,
    "Maximum": lambda x, scale, shift: tf.maximum(x, shift),
    "Minimum, Maximum": lambda x, scale, shift: tf.maximum(tf.minimum(x, scale), shift),
}


def measure(side: int, channels: int, seconds: float, threads: int) -> dict[str, float]:
    """µs of each form on a map of side × side × channels."""
    generator = np.random.default_rng(0)
    image = generator.uniform(-1, 1, (1, side, side, channels)).astype(np.float32)
    scales = generator.uniform(0.5, 1.5, (REPEATS, channels)).astype(np.float32)
    shifts = generator.normal(0, 0.3, (REPEATS, channels)).astype(np.float32)
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
    calls, best = {}, dict.fromkeys(FORMS, float("inf"))
    for name, form in FORMS.items():
        with tf.Graph().as_default() as graph:
            fed = x = tf.compat.v1.placeholder(tf.float32, image.shape)
            for scale, shift in zip(scales, shifts, strict=True):
                x = form(x, scale, shift)
            made = tf.reduce_sum(x[:, :1, :1, :1])
        session = tf.compat.v1.Session(graph=graph, config=config)
        calls[name] = session.make_callable(made, feed_list=[fed])
        for _ in range(10):
            calls[name](image)
    for _ in range(ROUNDS):
        for name, call in calls.items():
            end = time.perf_counter() + seconds / ROUNDS
            while (start := time.perf_counter()) < end:
                call(image)
                best[name] = min(best[name], time.perf_counter() - start)
    return {name: 1e6 * value / REPEATS for name, value in best.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.25, help="for each form and shape")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    print("map", *FORMS, sep=" | ")
    for side, channels in SHAPES:
        found = measure(side, channels, arguments.seconds, arguments.threads)
        base = next(iter(found.values()))
        figures = [f"{value:.0f} ({value / base:.2f})" for value in found.values()]
        print(f"{side}x{side}x{channels}", *figures, sep=" | ", flush=True)


if __name__ == "__main__":
    main()

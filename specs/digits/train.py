"""Train the digit reader of this folder: a small CNN with batch normalization, behind OpenCV, in a minute or two.

    python specs/digits/train.py        writes model.keras and labels.txt beside this file

The committed model was written by Keras 3.0.5 (TensorFlow 2.16): newer Keras reads older files, not the reverse.

The preprocessing here is what `spec.json` carries over into the `.pb`: gray, resize, rescale, all as OpenCV does it.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scans import Scan, make_scans

HERE = Path(__file__).parent
LABELS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SIZE = 32


def preprocess(jpeg: bytes) -> NDArray[np.float32]:
    """One JPEG file as the model takes it: gray, 32x32, in 0..1, [32, 32, 1]."""
    gray = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    small = cv2.resize(gray, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    return (small.astype(np.float32) / 255.0)[..., None]


def build_model() -> keras.Model:
    """Five convolutions, plain and separable, each with its batch normalization."""
    x = inputs = keras.Input((SIZE, SIZE, 1), name="scan")
    for number, (kind, channels, stride) in enumerate(
        [
            (keras.layers.Conv2D, 16, 1),
            (keras.layers.Conv2D, 32, 2),
            (keras.layers.SeparableConv2D, 64, 1),
            (keras.layers.SeparableConv2D, 64, 2),
            (keras.layers.SeparableConv2D, 96, 1),
        ]
    ):
        x = kind(channels, 3, stride, "same", use_bias=False, name=f"conv{number}")(x)
        x = keras.layers.BatchNormalization(name=f"norm{number}")(x)
        x = keras.layers.ReLU(name=f"relu{number}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(0.2, name="dropout")(x)
    return keras.Model(inputs, keras.layers.Dense(10, "softmax", name="digit")(x), name="digits")


def dataset(scans: list[Scan]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scans as the arrays that `fit` and `evaluate` take."""
    return np.stack([preprocess(scan.jpeg) for scan in scans]), np.array([scan.digit for scan in scans])


def main() -> None:
    keras.utils.set_random_seed(1)
    tf.config.experimental.enable_op_determinism()
    images, digits = dataset(make_scans(held_out=False, per_digit=12, seed=1))
    model = build_model()
    epochs, batch = 14, 64
    schedule = keras.optimizers.schedules.CosineDecay(3e-3, epochs * len(images) // batch)
    model.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, digits, batch, epochs, verbose=2)
    print("held out:", model.evaluate(*dataset(make_scans(held_out=True, per_digit=1, seed=2026)), verbose=0)[1])
    # A model that was never compiled is saved without the optimizer's state, which is twice the size of the weights.
    bare = build_model()
    bare.set_weights(model.get_weights())
    bare.save(HERE / "model.keras")
    (HERE / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))


if __name__ == "__main__":
    main()

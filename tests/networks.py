"""Networks for tests: small ones built by hand, and the families of keras.applications with honest statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FAMILIES = {
    "MobileNetV2": (96, "tf"),
    "ResNet50": (96, "caffe"),
    "EfficientNetB0": (96, None),
    "DenseNet121": (96, "torch"),
    "InceptionV3": (96, "tf"),
}
"""Input size of the test and mode of `preprocess_input`; None where the model holds its preprocessing."""


def natural_batch(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Images with a 1/f spectrum, uint8 RGB [count, size, size, 3]."""
    generator = np.random.default_rng(seed)
    y, x = np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None]
    frequency = np.maximum(np.hypot(y, x), 1.0 / size)
    noise = np.fft.fft2(generator.standard_normal((count, 3, size, size))) / frequency
    image = np.moveaxis(np.fft.ifft2(noise).real, 1, -1)
    image = image / image.std(axis=(1, 2, 3), keepdims=True) * 50 + generator.uniform(70, 180, (count, 1, 1, 3))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def set_statistics(model: Any, images: np.ndarray, seed: int = 0) -> None:
    """Give every batch norm the statistics of these images, some negative gammas and some tiny variances.

    With the statistics a fresh model comes with, all images fall into one class and nothing can be told apart.
    """
    import keras

    generator = np.random.default_rng(seed)
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        if layer.scale:
            gamma = generator.uniform(0.5, 1.5, layer.gamma.shape) * generator.choice([1, 1, 1, -1], layer.gamma.shape)
            layer.gamma.assign(gamma.astype("float32"))
        if layer.center:
            layer.beta.assign(generator.normal(0, 0.3, layer.beta.shape).astype("float32"))
    kept = [(layer, layer.momentum) for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(images.astype("float32"), training=True)
    for layer, momentum in kept:
        layer.momentum = momentum
    for layer in [layer for layer in norms if layer.scale][:: max(1, len(norms) // 4)]:
        # a channel that training has switched off: next to no variance, next to no weight
        for variable, value in ((layer.moving_variance, 1e-12), (layer.gamma, -1e-3)):
            values = np.array(variable)
            values[0] = value
            variable.assign(values)


def application(name: str, path: Path, size: int, classes: int = 100) -> Path:
    """A family of keras.applications with random weights and statistics from images, saved at `path`."""
    import keras

    keras.utils.set_random_seed(7)
    keras.backend.clear_session()
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(size, size, 3), classes=classes)
    images = natural_batch(8, size).astype("float32")
    mode = FAMILIES[name][1] if name in FAMILIES else "tf"
    if mode is not None:
        images = keras.src.applications.imagenet_utils.preprocess_input(images, data_format="channels_last", mode=mode)
    set_statistics(model, images)
    model.save(path)
    return path

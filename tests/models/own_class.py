"""A model of its author's own class, as a user's module holds it."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="mine")
class Own(keras.Model):  # type: ignore[misc]
    """Dense and batch norm by hand."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.dense = keras.layers.Dense(units)
        self.norm = keras.layers.BatchNormalization()

    def call(self, x: Any, training: bool = False) -> Any:
        return self.norm(self.dense(x), training=training)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}

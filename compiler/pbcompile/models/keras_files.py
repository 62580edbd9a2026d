"""`.h5`, `.keras` and architecture files to a model: read as data, built by today's Keras, filled, checked."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbcompile.errors import ModelError
from pbcompile.models.architecture import Reader, is_authors_own
from pbcompile.models.custom import custom_objects
from pbcompile.models.era import Era, era_of
from pbcompile.models.files import HDF5_MAGIC, Architecture, content_sha256, open_h5, read_architecture
from pbcompile.models.heads import activations_of
from pbcompile.models.lambdas import require_lambdas
from pbcompile.models.loaded import LoadedModel, ModelDescription, ModelSource, ModelTensor
from pbcompile.models.network import LayerSpec, Network, end_names, references
from pbcompile.models.preprocessing import recognise_preprocessing
from pbcompile.models.repairs import Repairs
from pbcompile.models.size import require_size

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def read_network(source: ModelSource, kind: str) -> tuple[Network, Architecture, Era, Repairs]:
    """The network in the file as data, with what was repaired on the way; imports no TensorFlow."""
    architecture = read_architecture(source, kind)
    version, backend = architecture.keras_version, architecture.backend
    if kind == "json" and source.weights is not None:
        from pbcompile.models.weights import version_in

        with source.weights.open("rb") as file:
            is_h5 = file.read(8) == HDF5_MAGIC
        if is_h5:
            saved_version, saved_backend = version_in(source, source.weights)
            version, backend = version or saved_version, backend or saved_backend
    era = era_of(version, backend, architecture.config)
    repairs = Repairs()
    with odd_config(source):
        network = Reader(source, era, repairs).network(architecture.config)
        recognise_preprocessing(network)
    return network, architecture, era, repairs


@contextmanager
def odd_config(source: ModelSource) -> Iterator[None]:
    """Configs are read as they come, so what stands where no Keras puts it shows as one of Python's own errors."""
    try:
        yield
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        what = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"
        message = f"the config in {source.path.name} holds what no Keras writes there ({what})"
        raise source.refuse(message, "save the model again", "model-unsupported") from error


def describe_network(network: Network) -> ModelDescription:
    """Inputs with dtype and shape, outputs by name, as far as the config alone says."""
    by_name = {spec.name: spec for spec in network.layers}
    inputs = []
    for name, ref in zip(end_names(network.inputs), references(network.inputs), strict=True):
        inputs.append(_described_input(name, by_name.get(ref.layer)))
    outputs = tuple(ModelTensor(name, "float32", None) for name in end_names(network.outputs))
    return ModelDescription(tuple(inputs), outputs, recognise_preprocessing(network), activations_of(network))


def load_keras(source: ModelSource, kind: str) -> LoadedModel:
    """The model in a `.h5`, `.keras` or architecture file."""
    custom = custom_objects(source)
    if source.trust_code and kind != "json":
        architecture = read_architecture(source, kind)
        if is_authors_own(architecture.config) and str(architecture.config.get("class_name")).split(">")[-1] in custom:
            return _by_keras(source, custom)
    network, _, era, repairs = read_network(source, kind)
    require_size(source, kind)
    import keras

    from pbcompile.models.build import Builder
    from pbcompile.models.object_weights import load_object_weights
    from pbcompile.models.weights import keras1_backend, load_saved_layers, read_saved_layers

    if keras.backend.backend() != "tensorflow":
        raise source.refuse(f"Keras runs on {keras.backend.backend()} here", "set KERAS_BACKEND=tensorflow")
    builder = Builder(source, era, repairs, custom)
    with odd_config(source):
        try:
            require_lambdas(source, network, era)
            model = builder.model(network)
        except ModelError as error:  # all at once: who meets one of them should know of the others
            raise ModelError(*dict.fromkeys([*error.problems, *builder.problems(network)])) from None
    if not model.built or not getattr(model, "inputs", None):
        raise source.refuse(f"{source.path.name} does not say the shape of its input")
    weights = source.weights if kind == "json" and source.weights is not None else source.path
    if kind == "keras" or _has_object_layout(source, weights):
        load_object_weights(source, weights, network, builder.layers)
    else:
        saved = read_saved_layers(source, weights)
        if era.keras1 and not era.backend:
            era = replace(era, backend=keras1_backend(saved, era.data_format == "channels_first"))
        load_saved_layers(source, network, builder.layers, saved, era, repairs)
    return _loaded(source, network, model, repairs)


def _by_keras(source: ModelSource, custom: Mapping[str, Any]) -> LoadedModel:
    """A model of its author's own class, which the spec trusts: Keras itself loads it, with that class."""
    import keras
    import tensorflow as tf

    from pbcompile.models.build import first_line

    name = source.path.name
    try:
        with keras.saving.custom_object_scope(dict(custom)):
            model = keras.saving.load_model(source.path, compile=False, safe_mode=False)
        given = model.inputs if getattr(model, "inputs", None) else _built_from(model)
        inputs = tuple(
            ModelTensor(t.name.partition(":")[0], keras.backend.standardize_dtype(t.dtype), tuple(t.shape))
            for t in given
        )
        made = keras.src.backend.compute_output_spec(lambda *xs: model(_one(xs), training=False), *given)
    except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError, tf.errors.OpError) as error:
        raise source.refuse(f"{name} cannot be loaded with the spec's class: {first_line(error)}") from error
    keys = list(made) if isinstance(made, dict) else [f"output_{i}" for i in range(len(_flat(made)))]
    keys = ["output"] if keys == ["output_0"] else keys
    outputs = tuple(
        ModelTensor(key, keras.backend.standardize_dtype(t.dtype), tuple(t.shape))
        for key, t in zip(keys, _flat(made), strict=True)
    )

    def call(feeds: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        results = model(_one([feeds[tensor.name] for tensor in inputs]), training=False)
        return dict(zip(keys, _flat(results), strict=True))

    repairs = (f"{type(model).__name__} loaded by Keras with the class that the spec trusts",)
    return LoadedModel(inputs, outputs, call, "keras", repairs, content_sha256(source.path), keep_alive=model)


def _built_from(model: keras.Model) -> list[Any]:
    """Symbolic inputs of a subclassed model, from the shape that it was built with."""
    import keras

    config = model.get_build_config() or {}
    shape = config.get("input_shape") or next(iter((config.get("shapes_dict") or {}).values()), None)
    if not isinstance(shape, (list, tuple)) or not shape:
        raise ValueError("the file does not say the shape of its input")
    shapes = shape if isinstance(shape[0], (list, tuple)) else [shape]
    return [
        keras.KerasTensor((None, *s[1:]), dtype="float32", name=f"input_{i}" if i else "input")
        for i, s in enumerate(shapes)
    ]


def _one(values: Any) -> Any:
    return values[0] if len(values) == 1 else list(values)


def _has_object_layout(source: ModelSource, path: Path) -> bool:
    from pbcompile.models.object_weights import is_object_layout

    if zipfile.is_zipfile(path):
        return True
    with open_h5(source, path) as file:
        return is_object_layout(file)


def _loaded(source: ModelSource, network: Network, model: keras.Model, repairs: Repairs) -> LoadedModel:
    import keras
    import tensorflow as tf

    from pbcompile.models.build import first_line

    inputs = tuple(
        ModelTensor(name, keras.backend.standardize_dtype(t.dtype), tuple(t.shape))
        for name, t in zip(end_names(network.inputs), _flat(_functional(model).input), strict=True)
    )
    names = end_names(network.outputs)
    outputs = tuple(
        ModelTensor(name, keras.backend.standardize_dtype(t.dtype), tuple(t.shape))
        for name, t in zip(names, _flat(_functional(model).output), strict=True)
    )

    def call(feeds: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        values = iter([feeds[tensor.name] for tensor in inputs])
        try:
            results = model(_refilled(network.inputs, values), training=False)
        except (ValueError, TypeError, NotImplementedError, tf.errors.OpError) as error:
            raise source.refuse(f"{source.path.name} cannot be run: {first_line(error)}") from error
        return dict(zip(names, _flat(results), strict=True))

    return LoadedModel(
        inputs,
        outputs,
        call,
        "keras",
        repairs.sentences(),
        content_sha256(source.path),
        recognise_preprocessing(network),
        repairs.departures(),
        activations_of(network),
        model,
        content_sha256(source.weights) if source.weights else None,
    )


def _functional(model: keras.Model) -> Any:
    """The functional graph of a model; a Sequential keeps its own inside."""
    return getattr(model, "_functional", None) or model


def _flat(value: Any) -> list[Any]:
    """Leaves in written order; Keras's own `tree` sorts the keys of a dict."""
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _flat(item)]
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in _flat(item)]
    return [value]


def _refilled(structure: Any, values: Any) -> Any:
    """`structure` with each reference replaced by the next of `values`."""
    if isinstance(structure, dict):
        return {key: _refilled(item, values) for key, item in structure.items()}
    if isinstance(structure, (list, tuple)):
        return [_refilled(item, values) for item in structure]
    return next(values)


def _described_input(name: str, spec: LayerSpec | None) -> ModelTensor:
    if spec is None or spec.class_name != "InputLayer":
        return ModelTensor(name, "float32", None)
    shape = spec.config.get("batch_shape")
    return ModelTensor(name, spec.config.get("dtype", "float32"), tuple(shape) if isinstance(shape, list) else None)

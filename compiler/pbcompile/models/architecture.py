"""A Keras config of any age, read into one plain description of the network: layers, calls, ends.

Nothing here imports TensorFlow or Keras, and nothing in the config is executed or looked up by module path.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pbcompile.errors import ModelError
from pbcompile.models.era import Era
from pbcompile.models.legacy import modernise
from pbcompile.models.loaded import ModelSource
from pbcompile.models.network import Call, LayerSpec, Network, Ref
from pbcompile.models.repairs import Repairs

NETWORKS = ("Sequential", "Functional", "Model", "Container", "Network", "Graph")
"""Class names under which Keras has saved a network of layers."""
OPERATION_MODULES = ("keras.src.ops.", "keras.ops.", "keras.src.ops", "keras.ops")
"""Where the operations of Keras 3 lie that a functional model may hold without being layers."""
PLAIN_OBJECTS = ("__numpy__", "__tensor__", "__slice__", "__ellipsis__")
MAX_NETWORK_DEPTH = 32
MAX_LAYERS = 20_000


class Reader:
    """Turns one file's config into a `Network`.  Raises ModelError for what cannot be understood."""

    def __init__(self, source: ModelSource, era: Era, repairs: Repairs) -> None:
        self.source = source
        self.era = era
        self.repairs = repairs
        self._depth = 0
        self._count = 0

    def network(self, data: Mapping[str, Any]) -> Network:
        """The network that `{"class_name", "config"}` describes."""
        class_name = _text(data.get("class_name"))
        if is_authors_own(data):
            raise self.refuse(
                f"the model is of the class {class_name or '?'}, written by its author, and holds no network of layers",
                'give the class: "custom_objects": {"' + (class_name or "Name") + '": "module:attribute"} with '
                '"trust_code": true; or save the model as a SavedModel',
            )
        self._depth += 1
        if self._depth > MAX_NETWORK_DEPTH:
            raise self.refuse(f"models are nested more than {MAX_NETWORK_DEPTH} deep")
        try:
            config = data.get("config")
            if isinstance(config, list):
                name = _text(data.get("name")) or "sequential"
                self.repairs.note("Sequential config that is a list read as layers", name)
                return self._sequential(config, {"name": name})
            if not isinstance(config, dict):
                raise self.refuse(f"the config of {class_name} is neither an object nor a list")
            layers = config.get("layers")
            if not isinstance(layers, list):
                raise self.refuse(f"the config of {class_name} has no list of layers")
            if class_name == "Sequential" or "output_layers" not in config:
                return self._sequential(layers, config)
            return self._functional(layers, config)
        finally:
            self._depth -= 1

    def refuse(self, message: str, hint: str = "") -> ModelError:
        """A ModelError about this file."""
        return self.source.refuse(f"{self.source.path.name}: {message}", hint, "model-unsupported")

    # -- layers

    def layer(self, data: object, where: str) -> LayerSpec:
        """One layer's `{"class_name", "config", …}`."""
        if not isinstance(data, dict) or not isinstance(data.get("class_name"), str):
            raise self.refuse(f"an entry of {where} is no layer")
        self._count += 1
        if self._count > MAX_LAYERS:
            raise self.refuse(f"there are more than {MAX_LAYERS} layers")
        class_name = data["class_name"]
        config = data.get("config")
        if class_name in NETWORKS or _is_network_config(config):
            network = self.network(data)
            name = _text(data.get("name")) or network.name
            return LayerSpec("Network", name, {}, network=network, saved_class=class_name)
        if config is None:
            config = {}
        if not isinstance(config, dict):
            raise self.refuse(f"the config of a {class_name} layer is not an object")
        name = _text(config.get("name")) or _text(data.get("name"))
        if not name:
            raise self.refuse(f"a {class_name} layer has no name")
        registered = _text(data.get("registered_name"))
        module = _text(data.get("module"))
        is_bare = self.era.keras3 and not module and not {"dtype", "batch_shape", "batch_input_shape"} & config.keys()
        if is_bare and set(config) >= {"name"} and class_name not in ("InputLayer", "Lambda"):
            module = OPERATION_MODULES[0]  # the .h5 files of Keras 3 leave modules out; operations have no dtype
        if module.startswith(OPERATION_MODULES) and ">" not in registered:
            return LayerSpec(class_name, name, dict(config), {}, None, class_name, config, module)
        modern = modernise(class_name, copy.deepcopy(config), self.era, self.repairs, name, registered, module)
        parts = {key: self._parts(key, value, name) for key, value in modern.parts.items()}
        for key in ("activation", "recurrent_activation"):
            value = modern.config.get(key)
            if isinstance(value, dict) and isinstance(value.get("config"), dict):
                modern.config[key] = self._parts(key, value, name)
        return LayerSpec(modern.class_name, name, modern.config, parts, None, class_name, dict(config))

    def _parts(self, key: str, value: object, name: str) -> LayerSpec | tuple[LayerSpec, ...]:
        self._depth += 1
        if self._depth > MAX_NETWORK_DEPTH:
            raise self.refuse(f"layers are nested more than {MAX_NETWORK_DEPTH} deep")
        try:
            if isinstance(value, list):
                return tuple(self.layer(_named(v, f"{name}_{key}_{i}"), name) for i, v in enumerate(value))
            return self.layer(_named(value, f"{name}_{key}"), name)
        finally:
            self._depth -= 1

    # -- Sequential

    def _sequential(self, layers: Sequence[object], config: Mapping[str, Any]) -> Network:
        name = _text(config.get("name")) or "sequential"
        specs = [self.layer(_unnamed(data, f"{name}_{i}"), f"Sequential {name}") for i, data in enumerate(layers)]
        if not specs:
            raise self.refuse(f"the Sequential {name} has no layers")
        if specs[0].saved_class == "Merge":
            return self._merged_sequential(name, specs)
        if specs[0].class_name != "InputLayer":
            shape, dtype = self._first_shape(specs[0], config)
            if shape is not None:
                self.repairs.note("Sequential without InputLayer given one", name)
                first = _input_layer(f"{specs[0].name}_input", shape, dtype)
                specs.insert(0, first)
        has_input = specs[0].class_name == "InputLayer"
        calls: dict[str, tuple[Call, ...]] = {}
        here = Ref(specs[0].name, 0, 0) if has_input else Ref("", 0, 0)
        begin = here
        for spec in specs[1:] if has_input else specs:
            if spec.name in calls:
                raise self.refuse(f"the Sequential {name} has two layers named {spec.name}")
            calls[spec.name] = (Call((here,)),)
            here = Ref(spec.name, 0, 0)
        return Network(name, True, tuple(specs), calls, begin, here, config.get("trainable") is not False)

    def _first_shape(self, first: LayerSpec, config: Mapping[str, Any]) -> tuple[list[int | None] | None, str]:
        spec: LayerSpec | None = first
        while spec is not None:
            for key in ("batch_input_shape", "batch_shape"):
                shape = spec.saved_config.get(key)
                if isinstance(shape, (list, tuple)):
                    dtype = spec.saved_config.get("input_dtype") or spec.saved_config.get("dtype")
                    return self._shape(shape, spec.name), dtype if isinstance(dtype, str) else "float32"
            inferred = _keras1_input_shape(spec)
            if inferred is not None:
                return inferred, "float32"
            if spec.network is not None:
                for inner in spec.network.layers[:1]:
                    if inner.class_name == "InputLayer":
                        return list(inner.config["batch_shape"]), str(inner.config.get("dtype", "float32"))
            inside = spec.parts.get("layer")
            spec = inside if isinstance(inside, LayerSpec) and spec.class_name == "TimeDistributed" else None
        built = config.get("build_input_shape")
        if isinstance(built, (list, tuple)) and all(d is None or isinstance(d, int) for d in built):
            return self._shape(built, first.name), "float32"
        return None, "float32"

    def _shape(self, shape: Sequence[object], name: str) -> list[int | None]:
        return check_shape(self.source, shape, name)

    def _merged_sequential(self, name: str, specs: list[LayerSpec]) -> Network:
        """Keras 1: a Sequential whose first layer merges other Sequentials; each of those is an input."""
        merge = specs[0]
        branches = merge.parts.get("layers")
        if not isinstance(branches, tuple) or not branches:
            raise self.refuse(f"the Merge layer {merge.name} lists no layers")
        layers: list[LayerSpec] = []
        calls: dict[str, tuple[Call, ...]] = {}
        inputs: list[Ref] = []
        tips: list[Ref] = []
        for branch in branches:
            shape, dtype = self._first_shape(branch, {})
            if shape is None:
                raise self.refuse(f"{branch.name}, merged by {merge.name}, has no input shape")
            entry = _input_layer(f"{branch.name}_input", shape, dtype)
            layers += [entry, branch]
            inputs.append(Ref(entry.name, 0, 0))
            calls[branch.name] = (Call((inputs[-1],)),)
            tips.append(Ref(branch.name, 0, 0))
        merge = replace(merge, parts={})
        layers.append(merge)
        calls[merge.name] = (Call((tips,)),)
        here = Ref(merge.name, 0, 0)
        for spec in specs[1:]:
            layers.append(spec)
            calls[spec.name] = (Call((here,)),)
            here = Ref(spec.name, 0, 0)
        self.repairs.note("Sequential over Merge read as a network with several inputs", name)
        return Network(name, False, tuple(layers), calls, inputs, here)

    # -- Functional

    def _functional(self, layers: Sequence[object], config: Mapping[str, Any]) -> Network:
        name = _text(config.get("name")) or "model"
        specs: dict[str, LayerSpec] = {}
        raw_calls: dict[str, list[object]] = {}
        for data in layers:
            spec = self.layer(data, f"the model {name}")
            own = _text(data.get("name")) if isinstance(data, dict) else ""
            key = own or spec.name
            if key in specs:
                raise self.refuse(f"the model {name} has two layers named {key}")
            specs[key] = spec if key == spec.name else _renamed(spec, key)
            nodes = data.get("inbound_nodes") if isinstance(data, dict) else None
            raw_calls[key] = list(nodes) if isinstance(nodes, list) else []
        ends = Ends(self, name, specs, raw_calls, config.get("output_layers"))
        calls = {key: tuple(ends.call(key, node) for node in nodes) for key, nodes in raw_calls.items() if nodes}
        inputs = ends.structure(config.get("input_layers"))
        outputs = ends.structure(config.get("output_layers"))
        if self._depth > 1 and isinstance(outputs, list) and len(outputs) == 1:
            if ends.keras2:
                self.repairs.note("list with one output inside a nested model read as that output", name)
            outputs = outputs[0]
        return Network(name, False, tuple(specs.values()), calls, inputs, outputs, config.get("trainable") is not False)


class Ends:
    """Resolves the tensor references of one functional config."""

    def __init__(
        self,
        reader: Reader,
        name: str,
        specs: Mapping[str, LayerSpec],
        raw_calls: Mapping[str, list[object]],
        ends: object,
    ) -> None:
        self.reader = reader
        self.name = name
        self.specs = specs
        self.counts = {key: max(1, len(nodes)) for key, nodes in raw_calls.items()}
        self.called_zero = _called_zero([*raw_calls.values(), ends])
        self.keras2 = not any(isinstance(node, dict) for nodes in raw_calls.values() for node in nodes)

    def call(self, layer: str, node: object) -> Call:
        """One entry of a layer's `inbound_nodes`, in the form of Keras 1 and 2 (lists) or 3 (args, kwargs)."""
        if isinstance(node, dict) and "args" in node:
            args = self._values(node.get("args"))
            kwargs = self._values(node.get("kwargs") or {})
            if not isinstance(args, list) or not isinstance(kwargs, dict):
                raise self.reader.refuse(f"the call of {layer} is no list of arguments")
            return Call(tuple(args), kwargs)
        kwargs = {}
        first = self._first_argument(node, kwargs, layer)
        if isinstance(first, list) and len(first) == 1 and not _keeps_lists(self.specs[layer].class_name):
            first = first[0]
        return Call((first,), kwargs)

    def structure(self, value: object) -> Any:
        """`input_layers` or `output_layers`: one reference, or a list, tuple or dict of them."""
        if _is_reference(value):
            return self._ref(value[0], value[1], value[2], is_end=True)  # type: ignore[index]
        if isinstance(value, dict):
            return {str(k): self.structure(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.structure(v) for v in value]
        raise self.reader.refuse(f"the model {self.name} has inputs or outputs that cannot be read: {value!r:.80}")

    def _first_argument(self, node: object, kwargs: dict[str, Any], layer: str) -> Any:
        if isinstance(node, list) and node and isinstance(node[0], str) and len(node) in (3, 4):
            if len(node) == 4 and isinstance(node[3], dict):
                kwargs.update({key: self._keyword(value) for key, value in node[3].items()})
            if node[0] == "_CONSTANT_VALUE":
                return node[2]
            return self._ref(node[0], node[1], node[2])
        if isinstance(node, list):
            return [self._first_argument(item, kwargs, layer) for item in node]
        if isinstance(node, dict):
            return {str(k): self._first_argument(v, kwargs, layer) for k, v in node.items()}
        raise self.reader.refuse(f"the inputs of the layer {layer} cannot be read: {node!r:.80}")

    def _keyword(self, value: object) -> Any:
        if _is_reference(value) and value[0] in self.specs:  # type: ignore[index]
            return self._ref(value[0], value[1], value[2])  # type: ignore[index]
        if isinstance(value, list):
            if len(value) == 3 and value[0] == "_CONSTANT_VALUE":
                return value[2]
            return [self._keyword(v) for v in value]
        if isinstance(value, dict):
            return {k: self._keyword(v) for k, v in value.items()}
        return value

    def _values(self, value: object) -> Any:
        if isinstance(value, dict):
            if value.get("class_name") == "__keras_tensor__":
                config = value.get("config")
                history = config.get("keras_history") if isinstance(config, dict) else None
                if isinstance(history, list) and _is_reference(history):
                    return self._ref(history[0], history[1], history[2])
                raise self.reader.refuse(f"a tensor in the model {self.name} has no history")
            if value.get("class_name") == "__lambda__":
                raise self.reader.refuse("a call argument is stored Python code, which is never run")
            if value.get("class_name") in PLAIN_OBJECTS:
                return self._plain(value)
            return {k: self._values(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self._values(v) for v in value]
        return value

    def _plain(self, value: dict[str, Any]) -> Any:
        """A NumPy array, tensor, slice or ellipsis that Keras 3 wrote as an object."""
        config = value.get("config")
        if value["class_name"] == "__ellipsis__":
            return Ellipsis
        if not isinstance(config, dict):
            raise self.reader.refuse(f"an argument in the model {self.name} cannot be read: {value!r:.60}")
        if value["class_name"] == "__slice__":
            return slice(*(self._values(config.get(key)) for key in ("start", "stop", "step")))
        return config.get("value")

    def _ref(self, layer: object, node: object, index: object, is_end: bool = False) -> Ref:
        spec = self.specs.get(layer) if isinstance(layer, str) else None
        if spec is None or not isinstance(layer, str) or not isinstance(node, int) or not isinstance(index, int):
            raise self.reader.refuse(f"the model {self.name} refers to {layer!r}, and has no such layer")
        count = self.counts[layer]
        call = node - self._offset(spec, count, node, is_end)
        if not 0 <= call < count:
            if count > 1 or node < 0:
                raise self.reader.refuse(f"call {node} of {layer} is asked for, and it is called {count} times")
            self.reader.repairs.note("node index out of range taken as the only call", layer)
            call = 0
        return Ref(layer, call, index)

    def _offset(self, spec: LayerSpec, count: int, node: int, is_end: bool) -> int:
        """Where a nested model's calls are counted from.

        The call that made it, where the model knew its input then, is call 0 to Keras 2; to Keras 3 it is so in a
        model's inputs and outputs only, and not for a Sequential.
        """
        if spec.network is None:
            return 0
        if count == 1:
            if node == 1 and spec.network.sequential:
                self.reader.repairs.note("nested Sequential with node index 1 read as its first call", spec.name)
            return min(node, 1)
        if self.keras2:
            return 0 if spec.name in self.called_zero else 1
        return 1 if is_end and not spec.network.sequential else 0


def _called_zero(values: Iterable[object]) -> set[str]:
    """The layers whose call 0 any list of Keras 1 or 2 refers to."""
    found: set[str] = set()
    level = list(values)
    while level:
        below: list[object] = []
        for item in level:
            if isinstance(item, (list, tuple)):
                if len(item) >= 3 and isinstance(item[0], str) and item[1] == 0:
                    found.add(item[0])
                below.extend(item)
            elif isinstance(item, dict):
                below.extend(item.values())
        level = below
    return found


def check_shape(source: ModelSource, shape: Sequence[object], name: str) -> list[int | None]:
    """`shape` as sizes, or ModelError for what no image model has (negative, or beyond any memory)."""
    sizes: list[int | None] = []
    total = 1
    for size in shape:
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
            raise source.refuse(f"{source.path.name}: the layer {name} has the shape {list(shape)!r:.80}")
        sizes.append(size)
        total *= size or 1
    if len(sizes) > 8 or total > 1 << 34:
        raise source.refuse(f"{source.path.name}: the layer {name} has the absurd shape {list(shape)!r:.80}")
    return sizes


def _input_layer(name: str, shape: Sequence[int | None], dtype: str) -> LayerSpec:
    config = {"batch_shape": list(shape), "dtype": dtype}
    return LayerSpec("InputLayer", name, config, saved_class="InputLayer")


def _keras1_input_shape(spec: LayerSpec) -> list[int | None] | None:
    """`input_shape` or `input_dim` (with `input_length`) as constructors of Keras 1 and 2 took them."""
    saved = spec.saved_config
    shape = saved.get("input_shape")
    if isinstance(shape, (list, tuple)):
        return [None, *shape]
    size = saved.get("input_dim")
    if isinstance(size, int) and spec.class_name not in ("Embedding",):
        length = saved.get("input_length")
        recurrent = "return_sequences" in saved or spec.class_name in ("Conv1D", "TimeDistributed")
        return [None, length if isinstance(length, int) else None, size] if recurrent else [None, size]
    if spec.class_name == "Embedding":
        length = saved.get("input_length")
        return [None, length if isinstance(length, int) else None]
    return None


def is_authors_own(data: Mapping[str, Any]) -> bool:
    """Whether a model is of a class of its author's, and no network of layers stands in its config."""
    return _text(data.get("class_name")) not in NETWORKS and not _is_network_config(data.get("config"))


def _is_network_config(config: object) -> bool:
    return isinstance(config, dict) and isinstance(config.get("layers"), list) and "output_layers" in config


def _is_reference(value: object) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and isinstance(value[0], str)
        and all(isinstance(v, int) and not isinstance(v, bool) for v in value[1:])
    )


def _keeps_lists(class_name: str) -> bool:
    """Whether the class takes a list even of one tensor (merging layers, stacked functions)."""
    return class_name in ("TFOpLambda", "TensorFlowOpLayer")


def _named(value: object, name: str) -> object:
    """An inner layer's data with a name, which files leave out for cells."""
    if isinstance(value, dict) and isinstance(value.get("config"), dict) and not value["config"].get("name"):
        return {**value, "config": {**value["config"], "name": name}}
    return _unnamed(value, name)


def _unnamed(value: object, name: str) -> object:
    """A Sequential of Keras 1 with the name that its list of layers has no place for."""
    if isinstance(value, dict) and isinstance(value.get("config"), list) and not value.get("name"):
        return {**value, "name": name}
    return value


def _renamed(spec: LayerSpec, name: str) -> LayerSpec:
    return replace(spec, name=name)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""

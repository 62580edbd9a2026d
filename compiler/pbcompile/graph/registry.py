"""What TensorFlow knows about an op: its attributes with their defaults, its dtypes, whether it has state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2, tensor_pb2
from tensorflow.python.framework import op_def_registry

from pbcompile.errors import PassError, Problem

Attrs = dict[str, Any]
"""Attribute name → AttrValue."""


@cache
def op_def(op: str) -> Any:
    """The OpDef of `op`, or None where TensorFlow has no such op."""
    return op_def_registry.get(op)


def require_op_def(op: str) -> Any:
    """The OpDef of `op`; PassError where TensorFlow has no such op."""
    found = op_def(op)
    if found is None:
        raise PassError(Problem("graph-invalid", f'TensorFlow has no op "{op}"'))
    return found


@cache
def attr_defs(op: str) -> Mapping[str, Any]:
    """AttrDef by name."""
    return {attr.name: attr for attr in require_op_def(op).attr}


def attr_or_default(op: str, attrs: Mapping[str, Any], name: str) -> Any:
    """The AttrValue that holds: the given one, or the op's default."""
    if name in attrs:
        return attrs[name]
    definition = attr_defs(op).get(name)
    if definition is None or not definition.HasField("default_value"):
        raise PassError(Problem("graph-invalid", f'op "{op}" needs the attribute "{name}"'))
    return definition.default_value


def python_value(value: Any) -> Any:
    """An AttrValue as plain Python: int, float, bool, str, dtype enum, shape tuple, or a list of these."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "list":
        for field in ("s", "i", "f", "b", "type", "shape"):
            items = getattr(value.list, field)
            if len(items):
                return [_plain(field, item) for item in items]
        return []
    return _plain(kind, getattr(value, kind))


def _plain(kind: str, item: Any) -> Any:
    if kind == "s":
        return item.decode("utf-8", "backslashreplace")
    if kind == "shape":
        return None if item.unknown_rank else tuple(None if d.size < 0 else int(d.size) for d in item.dim)
    return item


def make_attr(op: str, name: str, value: Any) -> Any:
    """`value` as the AttrValue that attribute `name` of `op` takes; AttrValues pass through."""
    if isinstance(value, attr_value_pb2.AttrValue):
        return value
    definition = attr_defs(op).get(name)
    if definition is None:
        raise PassError(Problem("graph-invalid", f'op "{op}" has no attribute "{name}"'))
    made = attr_value_pb2.AttrValue()
    kind = definition.type
    if kind.startswith("list("):
        field = {"int": "i", "float": "f", "bool": "b", "string": "s", "type": "type"}[kind[5:-1]]
        items = [v.encode() if isinstance(v, str) and field == "s" else v for v in value]
        if field == "type":
            items = [tf.as_dtype(v).as_datatype_enum for v in items]
        made.list.SetInParent()
        getattr(made.list, field).extend(items)
    elif kind == "string":
        made.s = value.encode() if isinstance(value, str) else value
    elif kind == "type":
        made.type = tf.as_dtype(value).as_datatype_enum
    elif kind == "shape":
        made.shape.CopyFrom(tf.TensorShape(value).as_proto())
    elif kind == "tensor":
        made.tensor.CopyFrom(value)
    else:
        setattr(made, {"int": "i", "float": "f", "bool": "b"}[kind], value)
    return made


def output_dtypes(op: str, attrs: Mapping[str, Any]) -> list[str]:
    """The dtype name of every output port of a node, from its OpDef alone."""
    found: list[str] = []
    for arg in require_op_def(op).output_arg:
        if arg.type_list_attr:
            found += [tf.as_dtype(t).name for t in attr_or_default(op, attrs, arg.type_list_attr).list.type]
            continue
        enum = arg.type or attr_or_default(op, attrs, arg.type_attr).type
        count = attr_or_default(op, attrs, arg.number_attr).i if arg.number_attr else 1
        found += [tf.as_dtype(enum % 100).name] * count
    return found


def infer_type_attrs(op: str, attrs: Attrs, input_dtypes: Sequence[str]) -> Attrs:
    """`attrs` with the type and count attributes filled in that follow from the inputs' dtypes."""
    filled = dict(attrs)
    at = 0
    for arg in require_op_def(op).input_arg:
        if arg.type_list_attr:
            continue
        if arg.number_attr:
            rest = len(require_op_def(op).input_arg) - 1
            count = len(input_dtypes) - rest
            filled.setdefault(arg.number_attr, make_attr(op, arg.number_attr, count))
        else:
            count = 1
        if arg.type_attr and at < len(input_dtypes):
            filled.setdefault(arg.type_attr, make_attr(op, arg.type_attr, input_dtypes[at]))
        at += count
    return filled


def is_default(op: str, name: str, value: Any) -> bool:
    """Whether the attribute stands at the value that the op assumes without it."""
    definition = attr_defs(op).get(name)
    if definition is None or not definition.HasField("default_value"):
        return False
    return bool(definition.default_value == value)


def tensor_proto(value: np.ndarray[Any, Any]) -> Any:
    """`value` with every number written out.

    TensorFlow's own writer stores equal values once; OpenCV's importer then reads a resize size of [224, 224] as
    one number (facts 7).
    """
    if value.dtype.kind in "OSU":
        return tf.make_tensor_proto(value, dtype=tf.string)
    proto = tensor_pb2.TensorProto(dtype=tf.as_dtype(value.dtype).as_datatype_enum)
    proto.tensor_shape.SetInParent()
    for size in value.shape:
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_content = np.ascontiguousarray(value).tobytes()
    return proto


def tensor_value(proto: Any) -> np.ndarray[Any, Any]:
    """The array in a TensorProto, read-only where it is the proto's own memory."""
    dtype = tf.as_dtype(proto.dtype)
    if proto.tensor_content and dtype != tf.string:
        shape = tuple(d.size for d in proto.tensor_shape.dim)
        return np.frombuffer(proto.tensor_content, dtype=dtype.as_numpy_dtype).reshape(shape)
    value: np.ndarray[Any, Any] = tf.make_ndarray(proto)
    return value

"""Other runtimes as contenders: conversion of the plainly frozen network, and programs that run it.

`python -m pbcompile.bench.peers JOB` converts: converters print, and may end their process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pbcompile.bench.contender import Contender, Network
from pbcompile.bench.programs import Feeds, Program, Runner, Unfused
from pbcompile.errors import PbcompileError, Problem
from pbcompile.plan import Plan
from pbcompile.steps.colour import ConvertColor
from pbcompile.steps.normalisation import KerasApplications, Normalize, Rescale, SubtractMean
from pbcompile.steps.resampling import Resize

Array = npt.NDArray[Any]

SUFFIX = {"openvino": ".xml", "openvino_preprocessor": ".xml", "onnxruntime": ".onnx", "litert": ".tflite"}
"""Of the file that `convert` writes."""

ONNX_OPSET = 18


def convert(peer: str, frozen: Path, network: Network, target: Path) -> None:
    """Write the network of a plainly frozen `.pb` in the peer's own format, in float32."""
    inputs, outputs = [end.node for end in network.inputs], [end.node for end in network.outputs]
    if peer.startswith("openvino"):
        import openvino

        openvino.save_model(openvino.Core().read_model(frozen), target, compress_to_fp16=False)
        return
    import tensorflow as tf

    if peer == "onnxruntime":
        import tf2onnx

        graph_def = tf.compat.v1.GraphDef.FromString(frozen.read_bytes())
        tf2onnx.convert.from_graph_def(
            graph_def,
            input_names=[f"{name}:0" for name in inputs],
            output_names=[f"{name}:0" for name in outputs],
            opset=ONNX_OPSET,
            output_path=str(target),
        )
        return
    shapes = {end.node: [size or 1 for size in end.shape or ()] for end in network.inputs}
    converter = tf.compat.v1.lite.TFLiteConverter.from_frozen_graph(str(frozen), inputs, outputs, shapes)
    target.write_bytes(converter.convert())


def peer_program(contender: Contender, plan: Plan, feeds: Feeds) -> Program:
    """The contender's program.  Raises PbcompileError where the peer cannot do this spec's preprocessing."""
    network, file = contender.network, contender.file
    if network is None or file is None:
        raise ValueError(f"a {contender.kind} contender needs its network")
    if contender.kind == "openvino_preprocessor":
        return OpenVinoWhole(plan, network, file, contender.threads, feeds)
    runners = {"openvino": _openvino, "onnxruntime": _onnxruntime, "litert": _litert}
    return Unfused(plan, runners[contender.kind](network, file, contender.threads))


class _OpenVino:
    """A model that is compiled anew for every set of input shapes: fixed shapes are its fast way."""

    def __init__(self, model: Any, threads: int) -> None:
        import openvino

        self._core, self._model, self._compiled = openvino.Core(), model, {}  # type: ignore[var-annotated]
        # Float32 as everywhere else here: some processors would be given bfloat16.
        self._settings = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }

    def run(self, given: list[Array]) -> Any:
        """Results by output tensor name."""
        return self.compiled([value.shape for value in given])(given)

    def compiled(self, shapes: list[tuple[int, ...]]) -> Any:
        """The model for inputs of these shapes."""
        key = tuple(shapes)
        if key not in self._compiled:
            model = self._model.clone()
            model.reshape({index: list(shape) for index, shape in enumerate(shapes)})
            self._compiled[key] = self._core.compile_model(model, "CPU", self._settings)
        return self._compiled[key]


def _openvino(network: Network, file: Path, threads: int) -> Runner:
    import openvino

    model = openvino.Core().read_model(file)
    order = [tensor.any_name for tensor in model.inputs]
    runtime = _OpenVino(model, threads)
    by_tensor = {f"{end.node}:0": end for end in network.inputs}
    ends = [_end(by_tensor, tensor) for tensor in model.inputs] if len(order) > 1 else list(network.inputs)
    if all(end.shape is not None and None not in end.shape[1:] for end in ends):
        runtime.compiled([(end.shape[0] or 1, *end.shape[1:]) for end in ends])  # type: ignore[index]

    def run(given: Mapping[str, Array]) -> Mapping[str, Array]:
        found = runtime.run([given[end.name] for end in ends])
        return {end.name: found[f"{end.node}:0"] for end in network.outputs}

    return run


def _end(by_tensor: Mapping[str, Any], tensor: Any) -> Any:
    """The end that an OpenVINO input stands for, by any of its names."""
    return next(by_tensor[name] for name in tensor.names if name in by_tensor)


class OpenVinoWhole(Program):
    """The network behind OpenVINO's PrePostProcessor, as its users fuse resize, colour order and normalisation."""

    def __init__(self, plan: Plan, network: Network, file: Path, threads: int, feeds: Feeds) -> None:
        import openvino

        self._plan, self._network = plan, network
        if len(plan.spec.inputs) != 1 or plan.spec.inputs[0].kind != "pixels" or plan.spec.inputs[0].fed.rank != 4:
            raise _unable("takes one input of pixels with a batch axis")
        self._name = plan.spec.inputs[0].name
        model = openvino.Core().read_model(file)
        self._runtime = _OpenVino(self._with_steps(model), threads)
        self._runtime.compiled([feeds[self._name].shape])

    def _with_steps(self, model: Any) -> Any:
        import openvino
        from openvino.preprocess import PrePostProcessor, ResizeAlgorithm

        item = self._plan.spec.inputs[0]
        if item.fed.layout != "NHWC" or item.fed.dtype != "uint8":
            raise _unable("is set up here for uint8 NHWC")
        processor = PrePostProcessor(model)
        end = processor.input()
        end.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        end.tensor().set_spatial_dynamic_shape()
        end.model().set_layout(openvino.Layout("NHWC"))
        chain, is_float = end.preprocess(), False
        for step in item.preprocess:
            if isinstance(step, Resize) and step.method == "linear" and step.size is not None:
                chain = chain.resize(ResizeAlgorithm.RESIZE_LINEAR, *step.size)
            elif isinstance(step, ConvertColor) and {item.channels, step.to} == {"RGB", "BGR"}:
                chain = chain.reverse_channels()
            else:
                reverse, mean, scale = _affine(step)
                chain = chain if is_float else chain.convert_element_type(openvino.Type.f32)
                chain, is_float = (chain.reverse_channels() if reverse else chain).mean(mean).scale(scale), True
        if not is_float:
            chain.convert_element_type(openvino.Type.f32)
        return processor.build()

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One inference request and the reference's postprocessing."""
        from pbcompile.reference.program import answers_reference

        found = self._runtime.run([feeds[self._name]])
        given = {end.name: found[f"{end.node}:0"] for end in self._network.outputs}
        return answers_reference(self._plan, given, feeds)


def _affine(step: Any) -> tuple[bool, list[float], list[float]]:
    """A step on values as OpenVINO says it: whether channels are reversed first, then (x - mean) / scale."""
    if isinstance(step, KerasApplications):
        if step.mode == "tf":
            return False, [127.5] * 3, [127.5] * 3
        if step.mode == "caffe":
            return True, [103.939, 116.779, 123.68], [1.0] * 3
        return False, [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    if isinstance(step, SubtractMean) and step.image is None:
        return False, _three(step.mean), [1.0] * 3
    if isinstance(step, Normalize):
        return False, _three(step.mean), _three(step.std)
    if isinstance(step, Rescale):
        scale, offset = np.array(_three(step.scale)), np.array(_three(step.offset))
        return False, [float(x) for x in -offset / scale], [float(x) for x in 1 / scale]
    raise _unable(f'has no equivalent of "{step.op}" here')


def _three(value: Any) -> list[float]:
    return [float(x) for x in np.broadcast_to(np.asarray(value, np.float64), (3,))]


def _unable(why: str) -> PbcompileError:
    return PbcompileError(Problem("peer-unable", f"OpenVINO's PrePostProcessor {why}"))


def _onnxruntime(network: Network, file: Path, threads: int) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    outputs = [f"{end.node}:0" for end in network.outputs]

    def run(given: Mapping[str, Array]) -> Mapping[str, Array]:
        found = session.run(outputs, {f"{end.node}:0": given[end.name] for end in network.inputs})
        return {end.name: value for end, value in zip(network.outputs, found, strict=True)}

    return run


def _litert(network: Network, file: Path, threads: int) -> Runner:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=threads)
    interpreter.allocate_tensors()
    inputs = _litert_order(interpreter.get_input_details(), [end.node for end in network.inputs])
    outputs = _litert_order(interpreter.get_output_details(), [end.node for end in network.outputs])

    def run(given: Mapping[str, Array]) -> Mapping[str, Array]:
        for end, detail in zip(network.inputs, inputs, strict=True):
            if tuple(detail["shape"]) != given[end.name].shape:
                interpreter.resize_tensor_input(detail["index"], given[end.name].shape)
                interpreter.allocate_tensors()
                detail["shape"] = given[end.name].shape
            interpreter.set_tensor(detail["index"], given[end.name])
        interpreter.invoke()
        pairs = zip(network.outputs, outputs, strict=True)
        return {end.name: interpreter.get_tensor(detail["index"]) for end, detail in pairs}

    return run


def _litert_order(details: list[Any], nodes: list[str]) -> list[Any]:
    """Details in the order of the nodes: LiteRT keeps their names, and the order where there is only one."""
    if len(details) == 1:
        return details
    by_name = {detail["name"].partition(":")[0]: detail for detail in details}
    return [by_name[node] for node in nodes]


def main() -> None:
    """Convert as told by a JSON job: peer, frozen, network, target."""
    job = json.loads(sys.argv[1])
    convert(job["peer"], Path(job["frozen"]), Network.from_json(job["network"]), Path(job["target"]))


if __name__ == "__main__":
    main()

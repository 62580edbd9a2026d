"""Which family of `keras.applications` a network is of, told by its convolutions, whatever its layers are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from pbcompile.models.network import LayerSpec, Network

LEAST_SHARE = 0.7
"""So much of a family's convolutions must be there: people cut backbones, and put convolutions behind them."""
MOST_EXTRA = 0.6


@dataclass(frozen=True)
class Family:
    """A published architecture.

    mode:   of its preprocess_input; "" where it holds its preprocessing itself.
    start:  its first convolutions, in order; "C3x3/2" is a Conv2D of 3×3 with stride 2, D depthwise, S separable.
    counts: all of its convolutions.
    filters: of the first Conv2D layers, where the family has only these.
    relu6:  whether it uses ReLU6, None where that tells nothing.
    """

    name: str
    mode: str
    start: str
    counts: str
    filters: tuple[int, ...] = ()
    relu6: bool | None = None


FAMILIES = (
    Family("VGG16", "caffe", "C3x3/1 C3x3/1", "C3x3/1:13", (64, 64, 128, 128, 256, 256, 256, 512)),
    Family("VGG19", "caffe", "C3x3/1 C3x3/1", "C3x3/1:16", (64, 64, 128, 128, 256, 256, 256, 256, 512)),
    Family("ResNet50", "caffe", "C7x7/2 C1x1/1", "C7x7/2:1 C1x1/1:30 C3x3/1:16 C1x1/2:6"),
    Family("ResNet101", "caffe", "C7x7/2 C1x1/1", "C7x7/2:1 C1x1/1:64 C3x3/1:33 C1x1/2:6"),
    Family("ResNet152", "caffe", "C7x7/2 C1x1/1", "C7x7/2:1 C1x1/1:98 C3x3/1:50 C1x1/2:6"),
    Family("ResNet50V2", "tf", "C7x7/2 C1x1/1", "C7x7/2:1 C1x1/1:36 C3x3/1:13 C3x3/2:3"),
    Family("ResNet101V2", "tf", "C7x7/2 C1x1/1", "C7x7/2:1 C1x1/1:70 C3x3/1:30 C3x3/2:3"),
    Family("ResNet152V2", "tf", "C7x7/2 C1x1/1", "C7x7/2:1 C1x1/1:104 C3x3/1:47 C3x3/2:3"),
    Family("DenseNet121", "torch", "C7x7/2 C1x1/1 C3x3/1", "C7x7/2:1 C1x1/1:61 C3x3/1:58"),
    Family("DenseNet169", "torch", "C7x7/2 C1x1/1 C3x3/1", "C7x7/2:1 C1x1/1:85 C3x3/1:82"),
    Family("DenseNet201", "torch", "C7x7/2 C1x1/1 C3x3/1", "C7x7/2:1 C1x1/1:101 C3x3/1:98"),
    Family("MobileNet", "tf", "C3x3/2 D3x3/1 C1x1/1 D3x3/2", "C3x3/2:1 D3x3/1:9 C1x1/1:13 D3x3/2:4", (), True),
    Family("MobileNetV2", "tf", "C3x3/2 D3x3/1 C1x1/1 C1x1/1", "C3x3/2:1 D3x3/1:13 C1x1/1:34 D3x3/2:4", (), True),
    Family("MobileNetV3Large", "tf", "C3x3/2 D3x3/1", "C3x3/2:1 D3x3/1:7 C1x1/1:48 D3x3/2:2 D5x5/2:2 D5x5/1:4"),
    Family("MobileNetV3Small", "tf", "C3x3/2 D3x3/2", "C3x3/2:1 D3x3/2:2 C1x1/1:42 D3x3/1:1 D5x5/2:2 D5x5/1:6"),
    Family("InceptionV3", "tf", "C3x3/2 C3x3/1 C3x3/1", "C3x3/2:5 C3x3/1:12 C1x1/1:40 C5x5/1:3 C7x1/1:13 C1x7/1:13 "
           "C1x3/1:4 C3x1/1:4"),
    Family("InceptionResNetV2", "tf", "C3x3/2 C3x3/1 C3x3/1", "C3x3/2:6 C3x3/1:37 C1x1/1:140 C5x5/1:1 C1x7/1:20 "
           "C7x1/1:20 C1x3/1:10 C3x1/1:10"),
    Family("Xception", "tf", "C3x3/2 C3x3/1", "C3x3/2:1 C3x3/1:1 S3x3/1:34 C1x1/2:4"),
    Family("NASNetMobile", "tf", "C3x3/2 C1x1/1", "C3x3/2:1 C1x1/1:35 S5x5/2:8 S7x7/2:8 S5x5/1:56 S7x7/1:8 S3x3/1:80"),
    Family("NASNetLarge", "tf", "C3x3/2 C1x1/1", "C3x3/2:1 C1x1/1:47 S5x5/2:8 S7x7/2:8 S5x5/1:80 S7x7/1:8 S3x3/1:116"),
    Family("EfficientNetB0", "", "C3x3/2 D3x3/1", "C3x3/2:1 D3x3/1:5 C1x1/1:64 D3x3/2:2 D5x5/2:2 D5x5/1:7"),
    Family("EfficientNetB1 or B2", "", "C3x3/2 D3x3/1", "C3x3/2:1 D3x3/1:9 C1x1/1:91 D3x3/2:2 D5x5/2:2 D5x5/1:10"),
    Family("EfficientNetB3", "", "C3x3/2 D3x3/1", "C3x3/2:1 D3x3/1:10 C1x1/1:103 D3x3/2:2 D5x5/2:2 D5x5/1:12"),
    Family("EfficientNetB4", "", "C3x3/2 D3x3/1", "C3x3/2:1 D3x3/1:12 C1x1/1:127 D3x3/2:2 D5x5/2:2 D5x5/1:16"),
    Family("EfficientNetB5", "", "C3x3/2 D3x3/1", "C3x3/2:1 D3x3/1:16 C1x1/1:154 D3x3/2:2 D5x5/2:2 D5x5/1:19"),
    Family("EfficientNetB6", "", "C3x3/2 D3x3/1", "C3x3/2:1 D3x3/1:18 C1x1/1:178 D3x3/2:2 D5x5/2:2 D5x5/1:23"),
    Family("EfficientNetB7", "", "C3x3/2 D3x3/1", "C3x3/2:1 D3x3/1:23 C1x1/1:217 D3x3/2:2 D5x5/2:2 D5x5/1:28"),
    Family("EfficientNetV2", "", "C3x3/2 C3x3/1", "C3x3/2:3 C3x3/1:3 C1x1/1:69 D3x3/2:2 D3x3/1:14"),
    Family("EfficientNetV2", "", "C3x3/2 C3x3/1", "C3x3/2:3 C3x3/1:6 C1x1/1:103 D3x3/2:2 D3x3/1:22"),
    Family("EfficientNetV2", "", "C3x3/2 C3x3/1", "C3x3/2:3 C3x3/1:8 C1x1/1:129 D3x3/2:2 D3x3/1:28"),
    Family("EfficientNetV2", "", "C3x3/2 C3x3/1", "C3x3/2:3 C3x3/1:16 C1x1/1:259 D3x3/2:2 D3x3/1:59"),
    Family("ConvNeXt", "", "C4x4/4 C7x7/1", "C4x4/4:1 C7x7/1:18 C2x2/2:3"),
    Family("ConvNeXt", "", "C4x4/4 C7x7/1", "C4x4/4:1 C7x7/1:36 C2x2/2:3"),
)  # fmt: skip


def recognise_family(network: Network) -> Family | None:
    """The family that the network's convolutions are of, also where it is nested, cut, or has a head of its own."""
    layers = list(all_layers(network))
    found = [word for word in map(_word, layers) if word]
    counts = Counter(found)
    filters = tuple(s.config.get("filters") for s in layers if s.class_name == "Conv2D")
    relu6 = any(_is_relu6(spec) for spec in layers)
    has_norms = any(spec.class_name == "BatchNormalization" for spec in layers)
    best: tuple[float, Family] | None = None
    for family in FAMILIES:
        start = family.start.split()
        if found[: len(start)] != start or filters[: len(family.filters)] != family.filters:
            continue
        if (family.relu6 is not None and relu6 != family.relu6) or (family.filters and has_norms):
            continue
        wanted = Counter({word: int(n) for word, n in (item.split(":") for item in family.counts.split())})
        shared, total = (counts & wanted).total(), wanted.total()
        share, extra = shared / total, (counts.total() - shared) / total
        if share >= LEAST_SHARE and extra <= MOST_EXTRA and (best is None or share - extra > best[0]):
            best = share - extra, family
    return None if best is None else best[1]


def all_layers(network: Network) -> Iterator[LayerSpec]:
    """The layers of a network and of those nested in it, in the order of the file."""
    for spec in network.layers:
        if spec.network is not None:
            yield from all_layers(spec.network)
        else:
            yield spec


def _word(spec: LayerSpec) -> str:
    if spec.class_name not in ("Conv2D", "DepthwiseConv2D", "SeparableConv2D"):
        return ""
    kernel, strides = spec.config.get("kernel_size"), spec.config.get("strides", 1)
    kernel = kernel if isinstance(kernel, (list, tuple)) else [kernel, kernel]
    stride = strides[0] if isinstance(strides, (list, tuple)) else strides
    return f"{spec.class_name[0]}{kernel[0]}x{kernel[-1]}/{stride}"


def _is_relu6(spec: LayerSpec) -> bool:
    if spec.class_name == "ReLU":
        return spec.config.get("max_value") == 6
    return "relu6" in str(spec.config.get("activation", "")) or "relu6" in str(spec.saved_config.get("function", ""))

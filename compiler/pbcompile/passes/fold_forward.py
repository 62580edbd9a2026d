"""Fold scales and shifts forwards, into the linear op behind them."""

from __future__ import annotations

from pbcompile.graph import Decline, Graph, Match, Node, Rule
from pbcompile.graph.pattern import op
from pbcompile.passes import affine
from pbcompile.passes.carry import CLONE_LIMIT
from pbcompile.passes.commute import dims
from pbcompile.passes.linear import CONVOLUTIONS, LINEAR, channel_axis, require_foldable, weights_transposed
from pbcompile.passes.pull import KINDS, Pulled, find, pull
from pbcompile.passes.rounding import require_not_rounded

ANY_LINEAR = op("|".join(LINEAR))


class _FoldForward(Rule):
    """What both rules share: find the affine above the data input, take it out, put it into the weights.

    Both also decline where the result is rounded to integers before anything else linear reads it (rounding.py).
    """

    kind: str
    pattern = ANY_LINEAR

    def fits(self, graph: Graph, match: Match) -> bool:
        """Whether there is anything of this kind above the data input."""
        data = match.root.inputs[LINEAR[match.root.op].data]
        return find(graph, data, KINDS[self.kind]) is not None

    def taken_out(self, graph: Graph, node: Node) -> tuple[Pulled, int]:
        """What is left of the data input, the numbers along its channels, and how many channels there are."""
        require_foldable(graph, node)
        require_not_rounded(graph, node)
        ports = LINEAR[node.op]
        data, weights = node.inputs[ports.data], node.inputs[ports.weights]
        if len(graph.readers(weights)) > 1 and graph.const(weights).nbytes > CLONE_LIMIT:
            raise Decline(f"the weights are shared, and a copy would cost {graph.const(weights).nbytes} bytes")
        axis = channel_axis(graph, node, data)
        channels = dims(graph, data)[axis]
        pulled = pull(graph, data, KINDS[self.kind])
        if channels is None or pulled.numbers.axis not in (None, axis):
            raise Decline(f'not one number per input channel of {node.op} "{node.name}"', pulled.source.name)
        return pulled, channels


class FoldScaleForward(_FoldForward):
    """Move a per-channel multiply into the weights of the linear op behind it.

    Before:  x ─► Mul(s) ─► [what a scale passes] ─► Conv(W) ─► y
    After:   x ─► [the same] ─► Conv(s·W) ─► y

    Exact in real arithmetic, with any padding: zero times s is zero.  A shift between stays where it is, divided by s.
    Declines when:
      1. something between has another reader, or is a graph output
      2. something between does not commute with a scale
      3. s is not one number per input channel
      4. the weights are no constant, or shared and large
      5. a factor is zero or tiny and a shift stands between
    """

    name = "fold-scale-forward"
    kind = "scale"

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The linear op with scaled weights."""
        node = match.root
        pulled, channels = self.taken_out(graph, node)
        weights = node.inputs[LINEAR[node.op].weights]
        scaled = affine.scale_inputs(
            node.op, graph.weights(weights), pulled.numbers.vector(channels), weights_transposed(node)
        )
        return _with_weights(graph, node, pulled, scaled)


class FoldShiftForward(_FoldForward):
    """Move a per-channel addition before a linear op into its bias.

    Before:  x ─► AddV2(t) ─► [what a shift passes] ─► Conv(W, VALID) ─► y
    After:   x ─► [the same] ─► Conv(W, VALID) ─► BiasAdd(Σ t·W) ─► y

    Exact in real arithmetic where every tap of the kernel sees the shift.
    Declines when:
      1. the convolution pads (SAME, EXPLICIT): at the border some taps see zeros, which are not shifted
      2. something between does not commute with a shift, zero padding above all
      3. something between has another reader, or is a graph output
      4. t is not one number per input channel
      5. the weights are no constant
      6. the addition has another reader: it stays, and nothing would be won
    """

    name = "fold-shift-forward"
    kind = "shift"

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The linear op with the response to the shift as its bias."""
        node = match.root
        pulled, channels = self.taken_out(graph, node)
        if not pulled.numbers.is_zero:
            require_no_padding(graph, node, pulled.source.name)
        if graph.reader_count(pulled.source) > 1 or graph.is_public(pulled.source):
            raise Decline(f'"{pulled.source.name}" is needed elsewhere too', pulled.source.name)
        weights = node.inputs[LINEAR[node.op].weights]
        response = affine.response_to_shift(
            node.op, graph.weights(weights), pulled.numbers.vector(channels), weights_transposed(node)
        )
        inputs = list(node.inputs)
        inputs[LINEAR[node.op].data] = pulled.tensor
        made = graph.copy_of(node, inputs)
        bias = graph.add_const(response, graph.dtype(node.name), f"{graph.asked_name(node)}/bias")
        last = channel_axis(graph, node, node.name) == len(dims(graph, node.name)) - 1
        attrs = {} if last else {"data_format": "NCHW"}
        shifted = graph.add("BiasAdd", [made, bias], attrs, f"{graph.asked_name(node)}/BiasAdd")
        graph.label(shifted, absorbed=pulled.source.stands_for)
        return shifted


def _with_weights(graph: Graph, node: Node, pulled: Pulled, weights: affine.Weights) -> str:
    ports = LINEAR[node.op]
    inputs = list(node.inputs)
    inputs[ports.data] = pulled.tensor
    given = node.inputs[ports.weights]
    inputs[ports.weights] = graph.add_const(weights, graph.dtype(given), f"{graph.asked_name(node)}/weights")
    made = graph.copy_of(node, inputs)
    graph.label(made, absorbed=pulled.source.stands_for)
    return made


def require_no_padding(graph: Graph, node: Node, about: str) -> None:
    """Decline unless every output of the linear op is made from real inputs alone."""
    if node.op not in CONVOLUTIONS:
        return
    if node.op in affine.OUT_BEFORE_IN:
        raise Decline(f'{node.op} "{node.name}" has borders that fewer taps reach', about)
    padding = node.attr("padding")
    kernel = graph.const(node.inputs[LINEAR[node.op].weights]).shape[:-2]
    if padding == "EXPLICIT" and not any(node.attr("explicit_paddings")):
        return
    if padding != "VALID" and (padding == "EXPLICIT" or any(size != 1 for size in kernel)):
        raise Decline(f'{node.op} "{node.name}" pads with zeros ({padding}), which are not shifted', about)

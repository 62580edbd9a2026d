"""An owned, indexed copy of a GraphDef, rewriting rules over it, and what makes one legal.

The only room that touches TensorFlow's internals.
"""

from pbcompile.graph import registry
from pbcompile.graph.lint import Promise, lint, promise_of
from pbcompile.graph.pattern import Match
from pbcompile.graph.portable import portable_graph_def, serialize
from pbcompile.graph.rewrite import Declined, Outcome, Rule, apply_rules
from pbcompile.graph.shapes import Shape
from pbcompile.graph.text import graph_text
from pbcompile.graph.view import Decline, Graph, Node

__all__ = [
    "Decline",
    "Declined",
    "Graph",
    "Match",
    "Node",
    "Outcome",
    "Promise",
    "Rule",
    "Shape",
    "apply_rules",
    "graph_text",
    "lint",
    "portable_graph_def",
    "promise_of",
    "registry",
    "serialize",
]

"""What was changed in an old file so that it means the same today, counted by kind."""

from __future__ import annotations


class Repairs:
    """Changes made to a file's config, counted by kind."""

    def __init__(self) -> None:
        self._layers: dict[str, list[str]] = {}
        self._departs: set[str] = set()

    def note(self, what: str, layer: str, departs: bool = False) -> None:
        """One more layer to which `what` was done; `departs` where today's Keras would silently do otherwise."""
        if departs:
            self._departs.add(what)
        layers = self._layers.setdefault(what, [])
        if layer not in layers:
            layers.append(layer)

    def departures(self) -> tuple[str, ...]:
        """What was noted as different from what today's Keras makes of the file."""
        return tuple(what for what in self._layers if what in self._departs)

    def sentences(self) -> tuple[str, ...]:
        """One sentence per kind of change: `DepthwiseConv2D.groups dropped (13 layers)`."""
        return tuple(
            f"{what} ({layers[0]})" if len(layers) == 1 else f"{what} ({len(layers)} layers)"
            for what, layers in self._layers.items()
        )

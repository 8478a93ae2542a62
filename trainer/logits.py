"""Find the logits of a loss that applies the last activation itself: it looks in front of that, as on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .graph import Graph, Row
from .joint_loss import JointLoss
from .layers.shape import Flatten, Reshape
from .losses import Loss


@contextmanager
def logits_of(net: Graph, loss: Loss) -> Iterator[None]:
    """Let `net` give in this block what `loss` takes: the logits in front of a last Softmax (Sigmoid) that it applies.

    Raises
    ------
    ValueError
        If the activation is in a network of its own, and others read what that gives.
    """
    losses = loss.losses if isinstance(loss, JointLoss) else (loss,)
    found = list(_ends(net, losses))
    try:
        for graph, ends in found:
            graph.ends = ends
        yield
    finally:
        for graph, _ in found:
            graph.ends = None


def _ends(net: Graph, losses: Sequence[Loss]) -> Iterator[tuple[Graph, tuple[str, ...]]]:
    """Yield each network, `net` and those inside, some of whose outputs are to be taken further up, and from where."""
    rows, ends = {row.name: row for row in net.rows}, list(net.outputs)
    for place, loss in enumerate(losses):
        row = _last_that_counts(rows, net.outputs[place])
        applied = _applied(loss)
        if not applied or row is None:
            continue
        if isinstance(row.layer, Graph):
            inside = list(_ends(row.layer, (loss,)))
            if inside:
                _require_no_reader(net, row, net.outputs[place], loss)
            yield from inside
        elif row.layer.kind in applied:
            ends[place] = row.sources[0]
    if tuple(ends) != net.outputs:
        yield net, tuple(ends)


def _applied(loss: Loss) -> tuple[str, ...]:
    """Return the kinds of layers that the `forward` of a loss applies: what is inherited is not said of a new one."""
    for owner in (loss, *type(loss).__mro__):
        own = vars(owner)
        if "applies" in own:
            return loss.applies
        if "forward" in own:
            break
    return ()


def _last_that_counts(rows: dict[str, Row], name: str) -> Row | None:
    """Return the row of value `name`, or the one in front of layers that hand it on as it is; None for an input."""
    row = rows.get(name)
    while (
        row is not None and isinstance(row.layer, (Flatten, Reshape)) and row.layer.in_shapes == (row.layer.out_shape,)
    ):
        row = rows.get(row.sources[0])
    return row


def _require_no_reader(net: Graph, row: Row, output: str, loss: Loss) -> None:
    """Raise ValueError if the value of `row`, a network that will give logits, is more than the way to an output."""
    readers = [other.layer.name for other in net.rows if row.name in other.sources]
    handed_on = row.name != output
    if len(readers) > handed_on or (handed_on and row.name in net.outputs):
        raise ValueError(
            f"{row.layer.name!r} ends in a layer that {loss.kind} applies itself ({' or '.join(loss.applies)}), and "
            f"{', '.join(readers)} reads it too: put its layers into the outer network"
        )

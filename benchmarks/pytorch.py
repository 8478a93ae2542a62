"""PyTorch in eager mode, as its tutorials write a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeprop import trainer as t

from .timing import Local

if TYPE_CHECKING:
    from .learning import Step, Task


def _torch() -> Any:
    import torch

    torch.set_num_threads(1)
    return torch


def convert(net: t.Sequential) -> Any:
    """Return the same network, with the same weights, as an `nn.Module`."""
    torch = _torch()
    return torch.nn.Sequential(*(_LAYERS[type(layer)](torch.nn, layer) for layer in net.sublayers()))


def _with_weights(module: Any, layer: t.Layer) -> Any:
    torch = _torch()
    with torch.no_grad():
        for key, value in layer.params.items():
            getattr(module, key).copy_(torch.from_numpy(value))
    module.edgeprop_name = layer.name
    return module


def _conv(nn: Any, layer: Any, filters: int, groups: int) -> Any:
    top, left, bottom, right = layer.windows.pads
    if (top, left) != (bottom, right):
        raise ValueError(f"{layer.name}: PyTorch pads both sides alike")
    channels = layer.in_shapes[0][0]
    module = nn.Conv2d(channels, filters, layer.kernel, layer.stride, (top, left), groups=groups)
    return _with_weights(module, layer)


def _residual(nn: Any, layer: t.Residual) -> Any:
    class Residual(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            *body, _ = layer.sublayers()
            self.shortcut = convert_layer(nn, body.pop()) if layer.rows[-1].sources[1] == "shortcut" else nn.Identity()
            self.body = nn.Sequential(*(convert_layer(nn, part) for part in body))

        def forward(self, x: Any) -> Any:
            return self.body(x) + self.shortcut(x)

    return Residual()


def convert_layer(nn: Any, layer: t.Layer) -> Any:
    """Return one layer as a module."""
    return _LAYERS[type(layer)](nn, layer)


_LAYERS: dict[type[t.Layer], Callable[[Any, Any], Any]] = {
    t.Conv2D: lambda nn, layer: _conv(nn, layer, layer.filters, 1),
    t.DepthwiseConv2D: lambda nn, layer: _conv(nn, layer, layer.out_shape[0], layer.in_shapes[0][0]),
    t.Dense: lambda nn, layer: _with_weights(nn.Linear(layer.in_shapes[0][0], layer.units), layer),
    t.ReLU: lambda nn, layer: nn.ReLU(inplace=True),
    t.MaxPool2D: lambda nn, layer: nn.MaxPool2d(layer.kernel, layer.stride),
    t.GlobalAveragePool: lambda nn, layer: nn.AdaptiveAvgPool2d(1),
    t.Flatten: lambda nn, layer: nn.Flatten(),
    t.Residual: _residual,
}


def freeze_all_but(net: Any, names: list[str]) -> list[Any]:
    """Freeze the layers that are not named; returns the parameters that learn."""
    for module in net.modules():
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad = module.edgeprop_name in names
    return [parameter for parameter in net.parameters() if parameter.requires_grad]


def learner(task: Task) -> tuple[Step, Local]:
    """A step of SGD.

    Raises
    ------
    ImportError : torch is not installed
    """
    from .learning import RATE

    torch = _torch()
    net = convert(task.net)
    optimizer = torch.optim.SGD(freeze_all_but(net, task.trainable), lr=RATE)
    criterion = torch.nn.CrossEntropyLoss()
    x, y = torch.from_numpy(task.x), torch.from_numpy(task.y)

    def step() -> Any:
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return lambda: float(step().detach()), Local(step)


def epoch(net: Any, x: Any, y: Any, batch: int, rate: float, momentum: float = 0.0) -> Callable[[], float]:
    """Passes over (x, y) in mini-batches, picked by index as when shuffled; returns the mean loss.

    Without a DataLoader, which would take longer.
    """
    torch = _torch()
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=momentum)
    criterion = torch.nn.CrossEntropyLoss()
    x, y = torch.from_numpy(x), torch.from_numpy(np.asarray(y, np.int64))

    def run() -> float:
        total = 0.0
        for part in torch.arange(len(x)).split(batch):
            optimizer.zero_grad()
            loss = criterion(net(x[part]), y[part])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(part)
        return total / len(x)

    return run

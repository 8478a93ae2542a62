"""Small PyTorch networks, for what its two exporters make of them. Importing this needs torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Made = tuple[nn.Module, tuple[torch.Tensor, ...]]


class Net(nn.Module):
    """A forward of parts: `Net(lambda s, x: s.a(x), a=nn.Linear(2, 3))`."""

    def __init__(self, forward: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *x: torch.Tensor) -> Any:
        """What was given, of itself and the inputs."""
        return self.run(self, *x)


def line(*layers: nn.Module) -> nn.Module:
    """Layers one after the other."""
    return nn.Sequential(*layers)


def separable(n_in: int, n_out: int) -> list[nn.Module]:
    """A depthwise and a pointwise convolution with their norms."""
    first = [nn.Conv2d(n_in, n_in, 3, padding=1, groups=n_in, bias=False), nn.BatchNorm2d(n_in), nn.ReLU6()]
    return [*first, nn.Conv2d(n_in, n_out, 1, bias=False), nn.BatchNorm2d(n_out)]


def attention(s: Any, x: torch.Tensor) -> torch.Tensor:
    """Attention of one head, spelled out."""
    scores = s.q(x) @ s.k(x).transpose(-1, -2) / 8**0.5
    return s.o((torch.softmax(scores, -1) @ s.v(x)).mean(1))


def causal(s: Any, x: torch.Tensor) -> torch.Tensor:
    """Attention to what came before."""
    future = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1)
    return torch.softmax((s.q(x) @ x.transpose(1, 2)).masked_fill(future, float("-inf")), -1) @ x


def squeeze_and_excite(s: Any, x: torch.Tensor) -> torch.Tensor:
    """A gate for every channel."""
    gate = torch.sigmoid(s.b(F.relu(s.a(x.mean((2, 3), keepdim=True)))))
    return s.h((x * gate).mean((2, 3)))


def u_net(s: Any, x: torch.Tensor) -> torch.Tensor:
    """One level down and up."""
    fine = F.relu(s.i(x))
    coarse = F.relu(s.m(F.max_pool2d(fine, 2)))
    return s.o(torch.cat([F.interpolate(coarse, scale_factor=2), fine], 1))


def shuffle(s: Any, x: torch.Tensor) -> torch.Tensor:
    """Channels change places between groups."""
    y = s.a(x)
    return s.h(y.view(y.size(0), 2, 3, 6, 6).transpose(1, 2).reshape(y.size(0), 6, 6, 6))


def gated(s: Any, x: torch.Tensor) -> torch.Tensor:
    """One half opens the other."""
    a, b = s.a(x).chunk(2, 1)
    return s.h(a * torch.sigmoid(b))


def blaze(s: Any, x: torch.Tensor) -> torch.Tensor:
    """A block of BlazeFace, whose shortcut is pooled and padded with channels of zeros, and a head of rows."""
    x = F.relu(s.i(F.pad(x, (1, 2, 1, 2))))
    short = F.pad(F.max_pool2d(x, 2), (0, 0, 0, 0, 0, 4))
    x = F.relu(s.p(s.d(F.pad(x, (0, 1, 0, 1)))) + short)
    return s.h(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4)


def yolo(s: Any, x: torch.Tensor) -> torch.Tensor:
    """Focus, a block in two parts, pools of a pool, a finer level by upsampling, boxes decoded on a grid."""
    x = torch.cat((x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]), 1)
    a, b = F.silu(s.i(x)).chunk(2, 1)
    fine = F.silu(s.m(torch.cat((a, b, b + F.silu(s.b(b))), 1)))
    pools = [F.silu(s.d(fine))]
    for _ in range(2):
        pools.append(F.max_pool2d(pools[-1], 3, 1, 1))
    up = F.interpolate(s.u(torch.cat(pools, 1)), scale_factor=2.0, mode="nearest")
    y = s.h(torch.cat((up, fine), 1)).view(x.shape[0], 2, 7, 6, 6).permute(0, 1, 3, 4, 2)
    rows, columns = torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij")
    grid = torch.stack((columns, rows), 2).view(1, 1, 6, 6, 2).float()
    centre, size, scores = y.sigmoid().split((2, 2, 3), 4)
    boxes = torch.cat(((centre * 2 + grid - 0.5) * 8, (size * 2) ** 2 * 5, scores), 4)
    return boxes.view(x.shape[0], -1, 7)


def detector(s: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes and boxes of two levels, as of SSD."""
    levels = [F.relu(s.a(x))]
    levels.append(F.relu(s.b(levels[0])))
    heads = zip(levels, (s.c1, s.c2), (s.r1, s.r2), strict=True)
    rows = [[h(y).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4) for h in (c, r)] for y, c, r in heads]
    classes, boxes = (torch.cat(part, 1) for part in zip(*rows, strict=True))
    return torch.softmax(classes, -1), boxes


def peaks(s: Any, x: torch.Tensor) -> torch.Tensor:
    """A heat map where it is highest around."""
    heat = torch.sigmoid(s.h(x))
    return heat * (heat == F.max_pool2d(heat, 3, 1, 1)).float()


def chosen(s: Any, x: torch.Tensor) -> torch.Tensor:
    """Activations by comparison."""
    x = s.a(x)
    x = s.b(torch.where(x > 0, x, 0.2 * x))
    return s.c(torch.where((x > -1) & (x < 1), x**3, torch.sign(x)))


def queries(s: Any, x: torch.Tensor) -> torch.Tensor:
    """Attention of learned queries, one for each of two heads."""
    k, v = (part(x).view(x.shape[0], -1, 2, 4).transpose(1, 2) for part in (s.k, s.v))
    return s.h((torch.softmax(s.q @ k.transpose(2, 3) / 2, -1) @ v).transpose(1, 2).flatten(1))


def mixed(s: Any, x: torch.Tensor) -> torch.Tensor:
    """Attention of two heads by PyTorch's own function, queries, keys and values out of one layer."""
    q, k, v = s.q(x).reshape(x.shape[0], -1, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


_ACTIVATIONS = (
    nn.SiLU,
    nn.ELU,
    nn.LeakyReLU,
    nn.PReLU,
    nn.Softplus,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Tanh,
    nn.SELU,
    nn.Mish,
)
_EXPAND = [nn.Conv2d(4, 12, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU6()]

#: name -> module, and the shape of each input for two samples
NETS: dict[str, Callable[[], tuple[nn.Module, tuple[tuple[int, ...], ...]]]] = {
    "mlp": lambda: (line(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3), nn.Softmax(1)), ((2, 6),)),
    "cnn": lambda: (
        line(
            *(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(4, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU6()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)),
        ),
        ((2, 1, 12, 12),),
    ),
    "separable": lambda: (
        line(nn.Conv2d(3, 6, 3, padding="same"), *separable(6, 4), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()),
        ((2, 3, 8, 8),),
    ),
    "inverted residual": lambda: (Net(lambda s, x: x + s.b(x), b=line(*_EXPAND, *separable(12, 4))), ((2, 4, 6, 6),)),
    "residual": lambda: (
        Net(
            lambda s, x: s.h(F.relu(x + s.b(F.relu(s.a(x)))).mean((2, 3))),
            a=nn.Conv2d(3, 3, 3, padding=1),
            b=nn.Conv2d(3, 3, 3, padding=1),
            h=nn.Linear(3, 4),
        ),
        ((2, 3, 6, 6),),
    ),
    "lstm": lambda: (
        Net(lambda s, x: s.h(s.l(x)[0][:, -1]), l=nn.LSTM(5, 6, 2, batch_first=True), h=nn.Linear(6, 3)),
        ((2, 7, 5),),
    ),
    "lstm state": lambda: (
        Net(lambda s, x: s.h(s.l(x)[1][0][-1]), l=nn.LSTM(5, 6, batch_first=True), h=nn.Linear(6, 3)),
        ((2, 7, 5),),
    ),
    "gru": lambda: (
        Net(
            lambda s, x: s.h(s.l(x)[0].mean(1)),
            l=nn.GRU(5, 6, batch_first=True, bidirectional=True),
            h=nn.Linear(12, 3),
        ),
        ((2, 7, 5),),
    ),
    "rnn": lambda: (
        Net(lambda s, x: s.h(s.l(x)[0][:, -1]), l=nn.RNN(5, 6, batch_first=True), h=nn.Linear(6, 3)),
        ((2, 4, 5),),
    ),
    "attention": lambda: (
        Net(attention, q=nn.Linear(8, 8), k=nn.Linear(8, 8), v=nn.Linear(8, 8), o=nn.Linear(8, 3)),
        ((2, 5, 8),),
    ),
    "causal attention": lambda: (Net(causal, q=nn.Linear(8, 8)), ((2, 5, 8),)),
    "transformer": lambda: (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu"), ((2, 5, 8),)),
    "layer norm": lambda: (line(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)), ((2, 6),)),
    "group norm": lambda: (
        line(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.GELU("tanh"), nn.InstanceNorm2d(4, affine=True)),
        ((2, 2, 6, 6),),
    ),
    "activations": lambda: (
        line(*(part for kind in _ACTIVATIONS for part in (nn.Linear(6, 6), kind())), nn.LogSoftmax(1)),
        ((2, 6),),
    ),
    "upsample": lambda: (
        line(
            *(nn.Conv2d(1, 3, 3, padding=1), nn.Upsample(scale_factor=2)),
            *(nn.Conv2d(3, 2, 3, padding=1), nn.Upsample(size=(15, 20), mode="bilinear")),
        ),
        ((2, 1, 5, 5),),
    ),
    "transposed": lambda: (
        line(
            *(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU()),
            nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1),
        ),
        ((2, 1, 8, 8),),
    ),
    "u-net": lambda: (
        Net(u_net, i=nn.Conv2d(1, 4, 3, padding=1), m=nn.Conv2d(4, 4, 3, padding=1), o=nn.Conv2d(8, 1, 1)),
        ((2, 1, 8, 8),),
    ),
    "embedding": lambda: (
        Net(lambda s, i: s.h(s.e(i).mean(1)), e=nn.Embedding(20, 8), h=nn.Linear(8, 3)),
        ((2, 5),),
    ),
    "view": lambda: (
        Net(
            lambda s, x: s.h(s.c(x).permute(0, 2, 3, 1).contiguous().view(x.size(0), -1)),
            c=nn.Conv2d(2, 3, 3),
            h=nn.Linear(48, 3),
        ),
        ((2, 2, 6, 6),),
    ),
    "reshape": lambda: (
        Net(
            lambda s, x: s.h(torch.flatten(s.c(x.unsqueeze(1)).reshape(x.shape[0], 2, 16), 1)),
            c=nn.Conv2d(1, 2, 3),
            h=nn.Linear(32, 3),
        ),
        ((2, 6, 6),),
    ),
    "shuffle": lambda: (Net(shuffle, a=nn.Conv2d(2, 6, 1), h=nn.Conv2d(6, 2, 1, groups=2)), ((2, 2, 6, 6),)),
    "pixel shuffle": lambda: (line(nn.Conv2d(2, 8, 3, padding=1), nn.PixelShuffle(2)), ((2, 2, 6, 6),)),
    "adaptive pools": lambda: (
        line(nn.Conv2d(2, 3, 3), nn.AdaptiveAvgPool2d((3, 6)), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(3, 2)),
        ((2, 2, 8, 8),),
    ),
    "pools": lambda: (
        line(
            nn.Conv2d(2, 3, 3, padding=1),
            nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False),
            nn.MaxPool2d(2, 2, ceil_mode=True),
        ),
        ((2, 2, 9, 9),),
    ),
    "causal convolution": lambda: (
        Net(lambda s, x: s.c(F.pad(x, (4, 0)))[:, :, -1], c=nn.Conv1d(3, 4, 3, dilation=2)),
        ((2, 3, 10),),
    ),
    "reflection": lambda: (
        Net(lambda s, x: s.c(F.pad(x, (1, 2, 0, 1), mode="reflect")), c=nn.Conv2d(2, 3, 3)),
        ((2, 2, 6, 6),),
    ),
    "squeeze and excite": lambda: (
        Net(squeeze_and_excite, a=nn.Conv2d(4, 2, 1), b=nn.Conv2d(2, 4, 1), h=nn.Linear(4, 3)),
        ((2, 4, 6, 6),),
    ),
    "gated": lambda: (Net(gated, a=nn.Linear(4, 10), h=nn.Linear(5, 2)), ((2, 4),)),
    "blaze": lambda: (
        Net(
            blaze,
            i=nn.Conv2d(3, 4, 5, 2),
            d=nn.Conv2d(4, 4, 3, 2, groups=4),
            p=nn.Conv2d(4, 8, 1),
            h=nn.Conv2d(8, 8, 1),
        ),
        ((2, 3, 12, 12),),
    ),
    "yolo": lambda: (
        Net(
            yolo,
            i=nn.Conv2d(12, 8, 1),
            b=nn.Conv2d(4, 4, 3, padding=1),
            m=nn.Conv2d(12, 8, 1),
            d=nn.Conv2d(8, 8, 3, 2, 1),
            u=nn.Conv2d(24, 4, 1),
            h=nn.Conv2d(12, 14, 1),
        ),
        ((2, 3, 12, 12),),
    ),
    "detector": lambda: (
        Net(
            detector,
            a=nn.Conv2d(3, 6, 3, 2, 1),
            b=nn.Conv2d(6, 6, 3, 2, 1),
            **{name: nn.Conv2d(6, 8, 3, padding=1) for name in ("c1", "c2", "r1", "r2")},
        ),
        ((2, 3, 8, 8),),
    ),
    "heat map": lambda: (Net(peaks, h=nn.Conv2d(3, 2, 3, padding=1)), ((2, 3, 8, 8),)),
    "choices": lambda: (Net(chosen, a=nn.Linear(6, 8), b=nn.Linear(8, 8), c=nn.Linear(8, 3)), ((2, 6),)),
    "lp pool": lambda: (line(nn.Conv2d(2, 3, 3), nn.LPPool2d(2, 2), nn.Flatten(), nn.Linear(27, 3)), ((2, 2, 8, 8),)),
    "learned queries": lambda: (
        Net(
            queries,
            q=nn.Parameter(torch.randn(1, 2, 1, 4)),
            k=nn.Linear(6, 8),
            v=nn.Linear(6, 8),
            h=nn.Linear(8, 3),
        ),
        ((2, 5, 6),),
    ),
    "mobile attention": lambda: (
        Net(
            lambda s, x: s.h(s.p(x).flatten(2).transpose(1, 2) + mixed(s, s.p(x).flatten(2).transpose(1, 2))),
            p=nn.Conv2d(3, 8, 4, 4),
            q=nn.Linear(8, 24),
            h=nn.Linear(8, 3),
        ),
        ((2, 3, 8, 8),),
    ),
    "einsum": lambda: (
        Net(lambda s, x: torch.einsum("btd,de->bte", x, s.w), w=nn.Parameter(torch.randn(4, 3))),
        ((2, 6, 4),),
    ),
    "class token": lambda: (
        Net(
            lambda s, x: s.a(torch.cat([s.p.expand(x.shape[0], -1, -1), x], 1))[:, 0],
            a=nn.Linear(4, 5),
            p=nn.Parameter(torch.randn(1, 1, 4)),
        ),
        ((2, 3, 4),),
    ),
    "padded frames": lambda: (
        Net(
            lambda s, x: s.g(torch.tanh(s.c(F.pad(x, (2, 0)))).permute(0, 2, 1))[0],
            c=nn.Conv1d(3, 4, 3),
            g=nn.GRU(4, 5, batch_first=True),
        ),
        ((2, 3, 6),),
    ),
    "share that is positive": lambda: (
        Net(lambda s, x: s.h((s.c(x) > 0).float().mean(2)), c=nn.Conv1d(1, 6, 5), h=nn.Linear(6, 3)),
        ((2, 1, 12),),
    ),
    "running sums": lambda: (Net(lambda s, x: torch.cumsum(s.a(x), 1), a=nn.Linear(4, 3)), ((2, 5, 4),)),
    "attention by a vector": lambda: (
        Net(lambda s, x: torch.softmax(torch.tanh(s.a(x)) @ s.v, 1), a=nn.Linear(4, 3), v=nn.Parameter(torch.randn(3))),
        ((2, 5, 4),),
    ),
    "log of a sum": lambda: (Net(lambda s, x: torch.logsumexp(s.a(x), 1), a=nn.Linear(4, 3)), ((2, 5, 4),)),
    "two inputs": lambda: (
        Net(
            lambda s, a, b: s.h(torch.cat([s.a(a), s.b(b)], 1)),
            a=nn.Linear(4, 5),
            b=nn.Linear(3, 5),
            h=nn.Linear(10, 2),
        ),
        ((2, 4), (2, 3)),
    ),
    "two outputs": lambda: (
        Net(
            lambda s, x: (s.a(s.t(x)), torch.sigmoid(s.b(s.t(x)))),
            t=nn.Linear(4, 5),
            a=nn.Linear(5, 2),
            b=nn.Linear(5, 1),
        ),
        ((2, 4),),
    ),
}


def make(name: str, batch: int = 2) -> Made:
    """A network in evaluation mode with norms that do something, and inputs for it."""
    torch.manual_seed(0)
    net, shapes = NETS[name]()
    for module in net.eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr,operator]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr,operator]
    shapes = tuple((batch, *shape[1:]) for shape in shapes)
    if name == "embedding":
        return net, (torch.randint(0, 20, shapes[0]),)
    return net, tuple(torch.randn(shape) for shape in shapes)

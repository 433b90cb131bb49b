"""The four models in PyTorch: an independent reference, and the peer in speed comparisons.

State-dict keys are those of the released checkpoints. All modules take and return float [n, 3, h, w],
RGB, 0..255.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import golden
import torch
import torch.nn.functional as F
from torch import Tensor, nn

RGB_MEAN = (0.4488, 0.4371, 0.4040)
PADDING_MODES = {"edge": "replicate", "zero": "zeros"}


def build(name: str, **options: Any) -> nn.Module:
    """Returns the model of the manifest `name`, freshly initialised, with further keyword arguments."""
    manifest = golden.manifest(name)
    return MODELS[manifest["architecture"]](**manifest["config"], **options)


def load(name: str, *, seed: int = 0, **options: Any) -> nn.Module:
    """Returns the model of the manifest `name` with golden weights, in evaluation mode."""
    weights = golden.state_dict(name, seed)
    if options.get("padding") == "zero":
        weights = golden.with_mean_convolutions(weights)
    model = build(name, **options)
    model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    return model.eval()


def count_parameters(model: nn.Module) -> int:
    """Returns the published kind of parameter count.

    It includes what the model never uses, `mlp1` and `c4`, and the mean shift only where that is a
    convolution.
    """
    return sum(parameter.numel() for parameter in model.parameters())


def resize_bicubic(x: Tensor, scale: float) -> Tensor:
    """Resizes like MATLAB's `imresize` and rounds to multiples of 1/255, rows before columns.

    Args:
        x: Float [n, c, h, w], 0..255.
        scale: Size of the result relative to `x`.

    Returns:
        Float [n, c, ceil(h * scale), ceil(w * scale)], not clipped.
    """
    for axis in (2, 3):
        taps, weights = _bicubic_taps(x.shape[axis], scale, device=x.device)
        shape = (-1, 1) if axis == 2 else (-1,)
        x = _sum(
            w.view(shape).to(x.dtype) * x.index_select(axis, tap)
            for tap, w in zip(taps, weights, strict=True)
        )
    return torch.round(255 * x) / 255


def _bicubic_taps(size: int, scale: float, *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns indices and weights [taps, output size].

    The published code computes them in float32 with positions from 1. At x3 its errors decide which ties
    of the final rounding go up, so they are kept.
    """
    shrink = min(scale, 1.0)
    positions = torch.arange(1, math.ceil(size * scale) + 1, device=device) / scale + 0.5 * (1 - 1 / scale)
    first = torch.floor(positions - 2 / shrink) + 1
    taps = first + torch.arange(math.ceil(4 / shrink), device=device)[:, None]
    weights = _keys_kernel((positions - taps) * shrink)
    weights = weights / weights.sum(dim=0, dtype=torch.float64).float()
    return taps.long().clamp(1, size) - 1, weights


def _keys_kernel(x: Tensor) -> Tensor:
    x = x.abs()
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _sum(terms: Iterable[Tensor]) -> Tensor:
    terms = iter(terms)
    total = next(terms)
    for term in terms:
        total = total + term
    return total


def _conv(inputs: int, outputs: int, size: int | tuple[int, int] = 3, *, padding: str = "zero") -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding="same", padding_mode=PADDING_MODES[padding])


class MeanVector(nn.Module):
    """Adds `sign` times the mean colour, on 0..255."""

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.register_buffer("rgb_mean", sign * 255 * torch.tensor(RGB_MEAN))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.rgb_mean.view(1, 3, 1, 1)


class MeanConvolution(nn.Conv2d):
    """Adds `sign * value_range` times the mean colour, as a 1x1 convolution."""

    def __init__(self, sign: int, *, value_range: float = 255) -> None:
        super().__init__(3, 3, 1)
        self.weight.data = torch.eye(3).view(3, 3, 1, 1)
        self.bias.data = sign * value_range * torch.tensor(RGB_MEAN)


class ChannelGate(nn.Module):
    """Scales each channel by a gate computed from all channels' means."""

    def __init__(self, channels: int, *, reduction: int = 8) -> None:
        super().__init__()
        self.mlp0 = self._mlp(channels, channels // reduction)
        # Checkpoints hold a second gate, which average pooling never uses.
        self.mlp1 = self._mlp(channels, channels // reduction)

    @staticmethod
    def _mlp(channels: int, hidden: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.mlp0(x.mean(dim=(2, 3))))
        return x * gate[:, :, None, None]


class ChannelAttention(nn.Sequential):
    def __init__(self, channels: int) -> None:
        super().__init__(OrderedDict(ChannelGate=ChannelGate(channels)))


class OrientedConvolutions(nn.Module):
    """Square, horizontal and vertical convolutions side by side, fused by a square one."""

    def __init__(
        self, n_feats: int, widths: tuple[int, int, int], *, skip: bool, attention: bool = False
    ) -> None:
        super().__init__()
        square, horizontal, vertical = widths
        self.skip = skip
        self.dia_conv = _conv(n_feats, square, 3)
        self.hor_conv = _conv(n_feats, horizontal, (1, 5))
        self.ver_conv = _conv(n_feats, vertical, (5, 1))
        gate = [ChannelAttention(sum(widths))] if attention else []
        self.conv = nn.Sequential(*gate, nn.ReLU(), _conv(sum(widths), n_feats))

    def forward(self, x: Tensor) -> Tensor:
        oriented = torch.cat([self.dia_conv(x), self.hor_conv(x), self.ver_conv(x)], dim=1)
        return self.conv(oriented) + x if self.skip else self.conv(oriented)


def _orientation_aware(n_feats: int, *, attention: bool) -> OrientedConvolutions:
    return OrientedConvolutions(n_feats, (96, 64, 64), skip=True, attention=attention)


def _feature_extraction(n_feats: int) -> OrientedConvolutions:
    return OrientedConvolutions(n_feats, (48, 96, 48), skip=False)


class DynamicFilter(nn.Module):
    """Filters each pixel and colour of an image with a kernel predicted from features.

    Args:
        n_feats: Number of features.
        size: Height and width of the kernels, odd.
        hidden: Channels between the two convolutions that predict the kernels.
        gathered: Gather all patches first, as published, instead of summing over shifted images. It
            needs `size * size` times the image's memory.
    """

    def __init__(self, n_feats: int, *, size: int, hidden: int = 64, gathered: bool = False) -> None:
        super().__init__()
        self.size = size
        self.gathered = gathered
        self.kernel_conv = nn.Sequential(_conv(n_feats, hidden), nn.ReLU(), _conv(hidden, 3 * size * size))

    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        kernels = self.kernel_conv(features).unflatten(1, (self.size**2, 3))
        return (
            self._filter_gathered(image, kernels) if self.gathered else self._filter_shifted(image, kernels)
        )

    def _filter_shifted(self, image: Tensor, kernels: Tensor) -> Tensor:
        height, width = image.shape[2:]
        padded = F.pad(image, [self.size // 2] * 4)
        offsets = [(y, x) for y in range(self.size) for x in range(self.size)]
        out = torch.zeros_like(image)
        for tap, (y, x) in enumerate(offsets):
            out.addcmul_(kernels[:, tap], padded[:, :, y : y + height, x : x + width])
        return out

    def _filter_gathered(self, image: Tensor, kernels: Tensor) -> Tensor:
        patches = F.unfold(image, self.size, padding=self.size // 2)
        patches = patches.view(image.shape[0], 3, self.size**2, *image.shape[2:])
        return (kernels.transpose(1, 2) * patches).sum(dim=2)


class OADDetBase(nn.Module):
    """Everything but the head, in which OADDet and Deep-OADDet differ."""

    def __init__(
        self, head: nn.Sequential, *, n_resblocks: int, n_feats: int, scale: int, hidden: int, gathered: bool
    ) -> None:
        super().__init__()
        self.scale = scale
        self.sub_mean = MeanVector(-1)
        self.add_mean = MeanVector(1)
        self.head = head
        self.body_down = nn.Sequential(nn.PixelUnshuffle(scale), _conv(3 * scale**2, n_feats, padding="edge"))
        attention_from = n_resblocks // 4 * 3
        self.body = nn.Sequential(
            *(_orientation_aware(n_feats, attention=i >= attention_from) for i in range(n_resblocks)),
            _conv(n_feats, n_feats, padding="edge"),
        )
        self.body_tail = nn.Sequential(
            nn.PixelShuffle(scale),
            _conv(n_feats // scale**2, n_feats, padding="edge"),
            nn.ReLU(),
            _conv(n_feats, n_feats, padding="edge"),
            nn.ReLU(),
        )
        self.dynamic_kernel0 = DynamicFilter(n_feats, size=5, gathered=gathered)
        self.dynamic_kernel1 = DynamicFilter(n_feats, size=7, hidden=hidden, gathered=gathered)
        self.dynamic_kernel2 = DynamicFilter(n_feats, size=3, gathered=gathered)
        self.tail = nn.Sequential(
            _conv(9, n_feats, padding="edge"), nn.ReLU(), _conv(n_feats, 3, padding="edge")
        )

    def forward(self, lr: Tensor) -> Tensor:
        upsampled = self.sub_mean(resize_bicubic(lr, self.scale))
        image = upsampled + self.head(upsampled)
        features = self.body_tail(self.body(self.body_down(upsampled)))
        filters = (self.dynamic_kernel0, self.dynamic_kernel1, self.dynamic_kernel2)
        filtered = torch.cat([dynamic_filter(image, features) for dynamic_filter in filters], dim=1)
        return self.add_mean(self.tail(filtered))


class OADDet(OADDetBase):
    def __init__(
        self, *, n_resblocks: int = 32, n_feats: int = 128, scale: int = 2, gathered: bool = False
    ) -> None:
        head = nn.Sequential(
            _conv(3, n_feats, 5, padding="edge"),
            nn.LeakyReLU(0.2),
            _feature_extraction(n_feats),
            nn.LeakyReLU(0.2),
            _feature_extraction(n_feats),
            nn.LeakyReLU(0.2),
            _feature_extraction(n_feats),
            ChannelAttention(n_feats),
            nn.LeakyReLU(0.2),
            _conv(n_feats, 3, 1),
        )
        super().__init__(
            head, n_resblocks=n_resblocks, n_feats=n_feats, scale=scale, hidden=64, gathered=gathered
        )


class DeepOADDet(OADDetBase):
    def __init__(
        self, *, n_resblocks: int = 40, n_feats: int = 128, scale: int = 2, gathered: bool = False
    ) -> None:
        head = nn.Sequential(
            _conv(3, n_feats, 5, padding="edge"),
            nn.LeakyReLU(0.2),
            *(_orientation_aware(n_feats, attention=i >= 2) for i in range(6)),
            ChannelAttention(n_feats),
            nn.LeakyReLU(0.2),
            _conv(n_feats, 3, padding="edge"),
        )
        super().__init__(
            head, n_resblocks=n_resblocks, n_feats=n_feats, scale=scale, hidden=96, gathered=gathered
        )


class Body(nn.Module):
    """Layers in sequence under the key `body`."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class EDSRBlock(Body):
    def __init__(self, n_feats: int, *, res_scale: float, padding: str) -> None:
        first, second = (_conv(n_feats, n_feats, padding=padding) for _ in range(2))
        super().__init__(first, nn.ReLU(), second)
        self.res_scale = res_scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.res_scale * self.body(x)


class EDSR(nn.Module):
    """EDSR, edge-padded as in the AIM 2020 checkpoints or zero-padded as in the original ones."""

    def __init__(
        self,
        *,
        n_resblocks: int = 32,
        n_feats: int = 256,
        scale: int = 2,
        res_scale: float = 1.0,
        padding: str = "edge",
    ) -> None:
        super().__init__()
        mean_shift = MeanConvolution if padding == "zero" else MeanVector
        self.sub_mean = mean_shift(-1)
        self.add_mean = mean_shift(1)
        self.head = nn.Sequential(_conv(3, n_feats, padding=padding))
        self.body = nn.Sequential(
            *(EDSRBlock(n_feats, res_scale=res_scale, padding=padding) for _ in range(n_resblocks)),
            _conv(n_feats, n_feats, padding=padding),
        )
        upsampler = nn.Sequential()
        for factor in _upsampling_factors(scale):
            upsampler.append(_conv(n_feats, factor**2 * n_feats, padding=padding))
            upsampler.append(nn.PixelShuffle(factor))
        self.tail = nn.Sequential(upsampler, _conv(n_feats, 3, padding=padding))

    def forward(self, lr: Tensor) -> Tensor:
        shallow = self.head(self.sub_mean(lr))
        return self.add_mean(self.tail(shallow + self.body(shallow)))


def _upsampling_factors(scale: int) -> tuple[int, ...]:
    return {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}[scale]


class ReLUConv(Body):
    def __init__(self, inputs: int, outputs: int, size: int = 3) -> None:
        super().__init__(_conv(inputs, outputs, size), nn.ReLU())


class DRLNResidual(Body):
    def __init__(self, channels: int) -> None:
        super().__init__(_conv(channels, channels), nn.ReLU(), _conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class LaplacianAttention(nn.Module):
    """Scales each channel by a gate computed from the channels' means at three dilations."""

    def __init__(self, channels: int = 64, hidden: int = 4) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = (
            Body(nn.Conv2d(channels, hidden, 3, padding=dilation, dilation=dilation), nn.ReLU())
            for dilation in (3, 5, 7)
        )
        self.c4 = Body(_conv(3 * hidden, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3), keepdim=True)
        return x * self.c4(torch.cat([self.c1(mean), self.c2(mean), self.c3(mean)], dim=1))


class DRLNBlock(nn.Module):
    """Three densely connected residual units, compressed and attended."""

    def __init__(self) -> None:
        super().__init__()
        self.r1, self.r2, self.r3 = DRLNResidual(64), DRLNResidual(128), DRLNResidual(256)
        self.g = ReLUConv(512, 64, 1)
        self.ca = LaplacianAttention()

    def forward(self, x: Tensor) -> Tensor:
        for residual in (self.r1, self.r2, self.r3):
            x = torch.cat([x, residual(x)], dim=1)
        return self.ca(self.g(x))


class DRLN(nn.Module):
    group_sizes = (3, 3, 3, 3, 4, 4)

    def __init__(self, *, scale: int = 2) -> None:
        super().__init__()
        # Upstream forgot to scale the mean to 0..255, and trained that way.
        self.sub_mean = nn.Sequential(OrderedDict(shifter=MeanConvolution(-1, value_range=1)))
        self.add_mean = nn.Sequential(OrderedDict(shifter=MeanConvolution(1, value_range=1)))
        self.head = _conv(3, 64)
        inputs = [64 * (position + 2) for size in self.group_sizes for position in range(size)]
        for i, channels in enumerate(inputs, start=1):
            self.add_module(f"b{i}", DRLNBlock())
            self.add_module(f"c{i}", ReLUConv(channels, 64))
        upsampler: list[nn.Module] = []
        for factor in _upsampling_factors(scale):
            upsampler += [_conv(64, 64 * factor**2), nn.ReLU(), nn.PixelShuffle(factor)]
        self.upsample = nn.Sequential(OrderedDict(up=Body(*upsampler)))
        self.tail = _conv(64, 3)

    def forward(self, lr: Tensor) -> Tensor:
        shallow = compressed = group_input = self.head(self.sub_mean(lr))
        first = 1
        for size in self.group_sizes:
            compressed = self._group(range(first, first + size), group_input, compressed)
            group_input = compressed + group_input
            first += size
        return self.add_mean(self.tail(self.upsample(group_input + shallow)))

    def _group(self, blocks: range, group_input: Tensor, concatenated: Tensor) -> Tensor:
        x = group_input
        for i in blocks:
            # The released weights were trained with block 5 reading the group's input; nothing reads c4.
            if i == 5:
                x = group_input
            concatenated = torch.cat([concatenated, self.get_submodule(f"b{i}")(x)], dim=1)
            if i != 4:
                x = self.get_submodule(f"c{i}")(concatenated)
        return x


MODELS = {"oaddet": OADDet, "deep_oaddet": DeepOADDet, "edsr": EDSR, "drln": DRLN}

"""Records what PyTorch's autograd says of small networks, with the ONNX files that PyTorch exports of them.

    python3 scripts/torch-oracle.py

writes packages/quant-core/src/autodiff/testing/torch.json, which autodiff/torch.test.ts reads, and train/testing/torch.json beside it, which
train/batchNorm.torch.test.ts reads. Needs torch 1.13 (Debian: python3-torch) and onnx; the tests need neither. In the first
loss = sum(output * weights), in the second it is the mean squared error; every gradient is that of the loss.
"""

import base64
import io
import json
import math
import os
import warnings
import zlib

import torch
import torch.nn.intrinsic.qat as qat
from torch import nn
from torch.ao.quantization import FakeQuantize, MinMaxObserver, QConfig
from torch.nn import functional as F

warnings.filterwarnings("ignore")
torch.set_num_threads(1)


class Fn(nn.Module):
    def __init__(self, fn, **modules):
        super().__init__()
        self.fn = fn
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *inputs):
        return self.fn(self, *inputs)


class Attention(nn.Module):
    """As in BERT: three projections, scaled scores, an additive mask."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def split(self, x):
        return x.view(x.size(0), x.size(1), self.heads, x.size(2) // self.heads).permute(0, 2, 1, 3)

    def forward(self, x, mask):
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(q.size(-1)) + (1.0 - mask)[:, None, None, :] * -10000.0
        context = torch.matmul(F.softmax(scores, dim=-1), v).permute(0, 2, 1, 3).contiguous()
        return self.out(context.view(x.shape))


class Bert(nn.Module):
    def __init__(self, dim=8, heads=2, vocabulary=11):
        super().__init__()
        self.words, self.positions = nn.Embedding(vocabulary, dim), nn.Embedding(6, dim)
        self.norm0, self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.up, self.down, self.pooler = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim), nn.Linear(dim, 3)

    def forward(self, ids, mask):
        x = self.norm0(self.words(ids) + self.positions(torch.arange(ids.size(1), device=ids.device)))
        x = self.norm1(x + self.attention(x, mask))
        x = self.norm2(x + self.down(F.gelu(self.up(x))))
        return torch.tanh(self.pooler(x[:, 0]))


class Vit(nn.Module):
    """Patches by convolution, a class token, one block with the projections in one matrix."""

    def __init__(self, dim=8, heads=2):
        super().__init__()
        self.heads = heads
        self.patches = nn.Conv2d(3, dim, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, 5, dim))
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.project = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down, self.head = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim), nn.Linear(dim, 4)

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        b, n, c = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        weights = ((q @ k.transpose(-2, -1)) * (c // self.heads) ** -0.5).softmax(dim=-1)
        x = x + self.project((weights @ v).transpose(1, 2).reshape(b, n, c))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(self.norm3(x)[:, 0])


class Recurrent(nn.Module):
    """Layers before and behind; those in the middle are frozen, as Octet has them."""

    def __init__(self):
        super().__init__()
        self.before, self.behind = nn.Linear(3, 4), nn.Linear(6, 2)
        self.lstm, self.gru = nn.LSTM(4, 3, batch_first=True, bidirectional=True), nn.GRU(6, 6, batch_first=True)
        for frozen in (self.lstm, self.gru):
            frozen.requires_grad_(False)

    def forward(self, x):
        sequence, last = self.gru(self.lstm(torch.relu(self.before(x)))[0])
        return self.behind(sequence.mean(1) + last[0])


class Unet(nn.Module):
    """Down, up by interpolation to the size of the skip, joined."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1, stride=2), nn.Conv2d(7, 2, 1)

    def forward(self, x):
        skip = F.silu(self.a(x))
        deep = F.interpolate(F.silu(self.b(skip)), size=skip.shape[2:], mode="bilinear", align_corners=False)
        return self.c(torch.cat([skip, deep], 1))


def activations(_, x):
    parts = [F.gelu(x), F.gelu(x, approximate="tanh"), F.silu(x), F.mish(x), F.softplus(x), F.softsign(x), F.elu(x, 0.7), F.selu(x)]
    parts += [F.celu(x, 1.3), F.hardswish(x), F.hardsigmoid(x), F.leaky_relu(x, 0.2), F.relu6(x), torch.tanh(x), torch.sigmoid(x), F.logsigmoid(x)]
    return torch.stack(parts)


def reductions(_, x):
    parts = [x.mean(1), x.sum(1), x.amax(1), x.amin(1), x.logsumexp(1), x.norm(dim=1), x.norm(p=1, dim=1), x.var(1), x.std(1, unbiased=False)]
    return torch.stack(parts + [F.normalize(x, dim=1).sum(1), F.log_softmax(x, 1)[:, 0], F.softmax(x, 1)[:, 1], x.cumsum(1)[:, 2]])


def movement(_, x):
    parts = [x.repeat(1, 2).narrow(1, 1, 6), x.expand(3, 6).roll(2, 1), F.pad(x, (2, 1), mode="constant")[:, :6], x[:, [5, 0, 0, 2, 1, 3]]]
    parts += [x.gather(1, torch.tensor([[0, 2, 2, 5, 1, 0]] * 3)), x.index_select(1, torch.tensor([3, 1, 1, 0, 5, 4])), x.flip(1), x.unsqueeze(2).squeeze(2)]
    parts += [torch.where(x > 0, x, x * x), x.masked_fill(x > 0.5, 0.25), x.triu(1), x.tril(-1), x.topk(6, 1)[0], torch.chunk(x, 2, 1)[1].repeat(1, 2)]
    return torch.stack(parts)


CASES = {
    "convolutions": (nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.ReLU(), nn.Conv2d(6, 3, (2, 3), dilation=(1, 2), padding=2, bias=False)), [(2, 4, 7, 6)], 13),
    "depthwise separable": (nn.Sequential(nn.Conv2d(3, 6, 3, groups=3, padding=1), nn.ReLU6(), nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)), [(2, 3, 5, 5)], 9),
    "one dimension": (nn.Sequential(nn.Conv1d(3, 4, 4, stride=2, padding=1), nn.MaxPool1d(2), nn.ConvTranspose1d(4, 2, 3, stride=2)), [(2, 3, 13)], 11),
    "three dimensions": (nn.Sequential(nn.Conv3d(2, 3, (2, 3, 2), padding=(0, 1, 1)), nn.MaxPool3d((1, 2, 2)), nn.ConvTranspose3d(3, 2, 2, stride=2), nn.AvgPool3d(2)), [(1, 2, 4, 6, 5)], 14),
    "transposed convolution": (nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), nn.Tanh(), nn.ConvTranspose2d(6, 2, (3, 2), dilation=2)), [(2, 4, 3, 4)], 7),
    "average pooling": (nn.Sequential(nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), nn.AvgPool2d(2, 1, padding=1), nn.LPPool2d(2, 2)), [(2, 2, 9, 9)], 12),
    "norms of images": (nn.Sequential(nn.InstanceNorm2d(4, affine=True), nn.GroupNorm(2, 4), nn.LocalResponseNorm(3, 0.4), nn.BatchNorm2d(4).eval()), [(2, 4, 3, 5)], 15),
    "layer norm, spelt out": (nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 2)), [(3, 6)], 16),
    "layer norm": (nn.Sequential(nn.Linear(6, 6), nn.LayerNorm([4, 6]), nn.Linear(6, 2)), [(3, 4, 6)], 17),
    "activations": (Fn(activations), [(3, 5)], 14),
    "reductions": (Fn(reductions), [(3, 4)], 13),
    "movement": (Fn(movement), [(3, 6)], 14),
    "interpolation": (Fn(lambda s, x: torch.cat([F.interpolate(x, scale_factor=2), F.interpolate(x, size=(6, 8), mode="bilinear", align_corners=True), F.interpolate(x, size=(6, 8), mode="bicubic"), F.pad(x, (2, 2, 1, 2), mode="reflect"), F.pad(x, (1, 3, 2, 1), mode="replicate")])), [(1, 2, 3, 4)], 11),
    "pixel shuffle": (nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.PixelShuffle(2), nn.PixelUnshuffle(2), nn.UpsamplingNearest2d(scale_factor=3)), [(1, 1, 3, 3)], 12),
    "einsum": (Fn(lambda s, a, b: torch.einsum("bqhd,bkhd->bhqk", a, b)), [(2, 3, 2, 4), (2, 5, 2, 4)], 12),
    "multi-head attention": (Fn(lambda s, x: s.attention(x, x, x, need_weights=False)[0], attention=nn.MultiheadAttention(8, 2, batch_first=True)), [(2, 5, 8)], 14),
    "BERT, opset 14": (Bert(), ["ids", "mask"], 14),
    "BERT, opset 17": (Bert(), ["ids", "mask"], 17),
    "ViT, opset 11": (Vit(), [(2, 3, 8, 8)], 11),
    "ViT, opset 17": (Vit(), [(2, 3, 8, 8)], 17),
    "recurrent layers": (Recurrent(), [(2, 4, 3)], 14),
    "U-Net, open batch": (Unet(), [(2, 2, 5, 7)], 16),
}

def inputs_of(shapes):
    made = []
    for shape in shapes:
        if shape == "ids":
            made.append(torch.tensor([[1, 4, 4, 0, 10], [7, 2, 9, 4, 3]]))
        elif shape == "mask":
            made.append(torch.tensor([[1.0, 1, 1, 1, 0], [1, 1, 1, 0, 0]]))
        else:
            made.append(torch.randn(*shape).requires_grad_())
    return made


def packed(tensor):
    """Little-endian float32 (or int64), base64."""
    return base64.b64encode(tensor.detach().contiguous().numpy().tobytes()).decode()


def record(name, module, shapes, opset):
    torch.manual_seed(sum(map(ord, name)))
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    inputs = inputs_of(shapes)
    names = [f"input{i}" for i in range(len(inputs))]
    file = io.BytesIO()
    axes = {n: {0: "N"} for n in names} if "open batch" in name else None
    module.eval()
    torch.onnx.export(module, tuple(inputs), file, opset_version=opset, do_constant_folding=False, input_names=names, output_names=["output"], dynamic_axes=axes)
    output = module(*inputs)
    weights = torch.randn(output.shape)
    (output * weights).sum().backward()
    wanted = {n: t.grad for n, t in [*zip(names, inputs), *module.named_parameters()] if t.grad is not None}
    return {
        "name": name,
        "opset": opset,
        "model": base64.b64encode(zlib.compress(file.getvalue(), 9)).decode(),
        "inputs": {n: {"shape": list(t.shape), "dtype": "float32" if t.is_floating_point() else "int64", "data": packed(t)} for n, t in zip(names, inputs)},
        "weights": {"shape": list(weights.shape), "data": packed(weights)},
        "output": packed(output),
        "gradients": {n: packed(g) for n, g in wanted.items()},
    }


class Normed(nn.Module):
    """Convolution, depthwise convolution and linear layer with batch norm behind each, quantized to 4 bits (weights) and 8 (activations).

    One scale a tensor: PyTorch's own fused modules of quantization-aware training. One scale a channel: fake quantization of the layer's own
    weights, batch norm behind, which is the same function.
    """

    def __init__(self, per_channel, frozen):
        super().__init__()
        self.per_channel, self.frozen = per_channel, frozen
        weight = FakeQuantize.with_args(observer=MinMaxObserver, quant_min=-7, quant_max=7, dtype=torch.qint8, qscheme=torch.per_tensor_symmetric)
        config = QConfig(activation=nn.Identity, weight=weight)
        self.conv1 = qat.ConvBn2d(3, 4, 3, padding=1, bias=True, freeze_bn=frozen, qconfig=config)
        self.conv2 = qat.ConvBn2d(4, 4, 3, groups=4, bias=False, freeze_bn=frozen, qconfig=config)
        self.fc = qat.LinearBn1d(64, 3, freeze_bn=frozen, qconfig=config)
        self.layers = (self.conv1, self.conv2, self.fc)
        self.scales = {}

    def layer(self, module, x):
        if not self.per_channel:
            y = module(x)
            self.scales[module] = module.weight_fake_quant.scale
            return y
        weight = module.weight
        scale = weight.detach().abs().flatten(1).amax(1) / 7
        self.scales[module] = scale
        quantized = torch.fake_quantize_per_channel_affine(weight, scale, torch.zeros(len(scale), dtype=torch.int32), 0, -7, 7)
        if module is self.fc:
            return module.bn(F.linear(x, quantized, module.bias))
        return module.bn(F.conv2d(x, quantized, module.bias, padding=module.padding, groups=module.groups))

    def forward(self, x):
        activation = lambda value, name: torch.fake_quantize_per_tensor_affine(value, *ACTIVATIONS[name], 0, 255)
        r = activation(torch.relu(self.layer(self.conv1, activation(x, "x"))), "r")
        return self.layer(self.fc, activation(self.layer(self.conv2, r), "n2").flatten(1))


# Scale and zero point: wide enough that nothing saturates.
ACTIVATIONS = {"x": (0.04, 128), "r": (0.03, 0), "n2": (0.05, 128)}


def record_norms(per_channel, frozen):
    torch.manual_seed(11)
    module = Normed(per_channel, frozen)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    for layer in module.layers:
        nn.init.normal_(layer.bn.running_mean, std=0.3)
        nn.init.uniform_(layer.bn.running_var, 0.5, 2)
        # Not near 0: PyTorch divides by it.
        with torch.no_grad():
            layer.bn.weight.add_(layer.bn.weight.sign() * 0.5)
    module.train()
    if frozen:
        for layer in module.layers:
            layer.freeze_bn_stats()
    numbers = lambda tensor: {"shape": list(tensor.shape), "data": packed(tensor)}
    before = [{n: numbers(t) for n, t in parts(layer).items()} for layer in module.layers]
    x, target = torch.randn(4, 3, 6, 6), torch.randn(4, 3)
    output = module(x)
    loss = F.mse_loss(output, target)
    loss.backward()
    return {
        "name": f"{'a scale a channel' if per_channel else 'one scale'}, {'frozen' if frozen else 'by the batch'}",
        "perChannel": per_channel,
        "frozen": frozen,
        "x": numbers(x),
        "target": numbers(target),
        "activations": {n: {"scale": s, "zeroPoint": z} for n, (s, z) in ACTIVATIONS.items()},
        "loss": loss.item(),
        "layers": [
            {
                "before": numbers_before,
                "scale": numbers(module.scales[layer].reshape(-1)),
                "gradients": {"weight": packed(layer.weight.grad), "gamma": packed(layer.bn.weight.grad), "beta": packed(layer.bn.bias.grad)},
                "mean": packed(layer.bn.running_mean),
                "variance": packed(layer.bn.running_var),
            }
            for layer, numbers_before in zip(module.layers, before)
        ],
    }


def parts(layer):
    found = {"weight": layer.weight, "gamma": layer.bn.weight, "beta": layer.bn.bias, "mean": layer.bn.running_mean, "variance": layer.bn.running_var}
    return found if layer.bias is None else {**found, "bias": layer.bias}


def write(path, records):
    with open(os.path.join(os.path.dirname(__file__), "../packages/quant-core/src", path), "w") as file:
        file.write(json.dumps({"torch": torch.__version__, "cases": records}, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")


def main():
    write("autodiff/testing/torch.json", [record(name, *case) for name, case in CASES.items()])
    write("train/testing/torch.json", [record_norms(per_channel, frozen) for per_channel in (True, False) for frozen in (False, True)])


main()

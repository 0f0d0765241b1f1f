"""The networks of bench/models in PyTorch: the same layers and shapes, convolutions with bias as after batch norm folding.

Quantization is what eager mode has: a QuantStub where float values enter a layer, a fake quant behind every layer and every FloatFunctional.
"""

import math

import torch
import torch.ao.quantization as tq
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if inputs != outputs or stride != 1 else nn.Identity()
        self.add = nn.quantized.FloatFunctional()
        self.relu2 = nn.ReLU()

    def forward(self, x):
        return self.relu2(self.add.add(self.conv2(self.relu1(self.conv1(x))), self.shortcut(x)))


class ResNet20(nn.Module):
    sample = (3, 32, 32)

    def __init__(self):
        super().__init__()
        self.quant, self.dequant = tq.QuantStub(), tq.DeQuantStub()
        self.stem, self.stem_relu = nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU()
        widths = [(16, 16, 1), (16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 64, 1)]
        self.blocks = nn.Sequential(*(Block(*width) for width in widths))
        self.classify = nn.Linear(64, 10)

    def pairs(self):
        return [['stem', 'stem_relu']] + [[f'blocks.{i}.conv1', f'blocks.{i}.relu1'] for i in range(len(self.blocks))]

    def forward(self, x):
        x = self.blocks(self.stem_relu(self.stem(self.quant(x))))
        return self.dequant(self.classify(x.mean((2, 3))))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        layers = [nn.Conv2d(inputs, hidden, 1), nn.ReLU()] if expansion > 1 else []
        layers += [nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden), nn.ReLU(), nn.Conv2d(hidden, outputs, 1)]
        self.layers = nn.Sequential(*layers)
        self.add = nn.quantized.FloatFunctional() if stride == 1 and inputs == outputs else None

    def pairs(self):
        return [[f'layers.{i}', f'layers.{i + 1}'] for i in range(0, len(self.layers) - 1, 2)]

    def forward(self, x):
        y = self.layers(x)
        return y if self.add is None else self.add.add(x, y)


class MobileNetV2(nn.Module):
    sample = (3, 32, 32)
    stages = [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 2, 2), (6, 64, 2, 2), (6, 96, 1, 1), (6, 160, 1, 2)]

    def __init__(self):
        super().__init__()
        self.quant, self.dequant = tq.QuantStub(), tq.DeQuantStub()
        self.stem, self.stem_relu = nn.Conv2d(3, 32, 3, 1, 1), nn.ReLU()
        blocks, inputs = [], 32
        for expansion, outputs, count, first in self.stages:
            for block in range(count):
                blocks.append(InvertedResidual(inputs, outputs, first if block == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head, self.head_relu = nn.Conv2d(inputs, 320, 1), nn.ReLU()
        self.classify = nn.Linear(320, 10)

    def pairs(self):
        inner = [[f'blocks.{i}.{name}' for name in pair] for i, block in enumerate(self.blocks) for pair in block.pairs()]
        return [['stem', 'stem_relu'], ['head', 'head_relu'], *inner]

    def forward(self, x):
        x = self.head_relu(self.head(self.blocks(self.stem_relu(self.stem(self.quant(x))))))
        return self.dequant(self.classify(x.mean((2, 3))))


class Mlp(nn.Module):
    sample = (784,)

    def __init__(self):
        super().__init__()
        self.quant, self.dequant = tq.QuantStub(), tq.DeQuantStub()
        self.layers = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))

    def pairs(self):
        return [['layers.0', 'layers.1'], ['layers.2', 'layers.3']]

    def forward(self, x):
        return self.dequant(self.layers(self.quant(x)))


class Linear(nn.Module):
    """A fully connected layer whose input is float: quantized here, as its weights and its output are."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.quant, self.linear = tq.QuantStub(), nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.linear(self.quant(x))


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.project = Linear(dim, 3 * dim), Linear(dim, dim)

    def forward(self, x):
        n, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        weights = F.softmax((q * (1 / math.sqrt(dim // self.heads))) @ k.transpose(-2, -1), -1)
        return self.project((weights @ v).transpose(1, 2).reshape(n, tokens, dim))


class TransformerBlock(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.expand, self.contract = Linear(dim, 4 * dim), Linear(4 * dim, dim)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.contract(F.gelu(self.expand(self.norm2(x))))


class Vit(nn.Module):
    sample = (3, 32, 32)

    def __init__(self, dim=96, heads=3, depth=4, tokens=64):
        super().__init__()
        self.quant, self.dequant = tq.QuantStub(), tq.DeQuantStub()
        self.patches = nn.Conv2d(3, dim, 4, 4)
        self.position = nn.Parameter(torch.randn(1, tokens, dim) * 0.02)
        self.blocks = nn.Sequential(*(TransformerBlock(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.classify = Linear(dim, 10)
        # What Octet leaves as it is: the table of positions.
        self.position.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.qconfig = None

    def pairs(self):
        return []

    def forward(self, x):
        x = self.patches(self.quant(x)).flatten(2).transpose(1, 2) + self.position
        return self.dequant(self.classify(self.norm(self.blocks(x)).mean(1)))


networks = {'resnet20': ResNet20, 'mobilenetv2': MobileNetV2, 'mlp': Mlp, 'vit': Vit}

"""Training steps of ResNet-20 in PyTorch eager, float or quantization-aware: the peer that `npm run bench -- engine` measures against.

Needs Debian's python3-torch (1.13); nothing else. Prints one line of JSON for each measurement.

    python3 resnet20.py --mode qat --batch 64 --threads 2 --steps 12

The network is bench/models/resnet20.ts: convolutions with bias, as after batch norm folding. `--fuse` joins Conv+ReLU first, as PyTorch's
quantization tutorial does, so that no fake quant stands between the two; without it every module output gets one.
"""

import argparse
import json
import platform
import time

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
    def __init__(self):
        super().__init__()
        self.quant, self.dequant = tq.QuantStub(), tq.DeQuantStub()
        self.stem, self.stem_relu = nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU()
        widths = [(16, 16, 1), (16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 64, 1)]
        self.blocks = nn.Sequential(*(Block(*width) for width in widths))
        self.classify = nn.Linear(64, 10)

    def forward(self, x):
        x = self.blocks(self.stem_relu(self.stem(self.quant(x))))
        return self.dequant(self.classify(x.mean((2, 3))))


def build(mode, backend, fuse):
    torch.manual_seed(0)
    model = ResNet20().train()
    if mode == 'qat':
        if fuse:
            pairs = [['stem', 'stem_relu']] + [[f'blocks.{i}.conv1', f'blocks.{i}.relu1'] for i in range(9)]
            model = tq.fuse_modules_qat(model, pairs)
        model.qconfig = tq.get_default_qat_qconfig(backend)
        tq.prepare_qat(model, inplace=True)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--mode', choices=['float', 'qat'], required=True)
    parser.add_argument('--backend', choices=['qnnpack', 'fbgemm'], default='qnnpack')
    parser.add_argument('--fuse', action='store_true')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--warmup', type=int, default=3)
    parser.add_argument('--steps', type=int, default=12)
    parser.add_argument('--rounds', type=int, default=1, help='measurements, one line of JSON each')
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    model = build(options.mode, options.backend, options.fuse)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    x = torch.randn(options.batch, 3, 32, 32)
    y = torch.arange(options.batch) % 10

    def step():
        started = time.perf_counter()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return time.perf_counter() - started

    for _ in range(options.warmup):
        step()
    for _ in range(options.rounds):
        seconds = sorted(step() for _ in range(options.steps))
        median = seconds[len(seconds) // 2]
        print(
            json.dumps(
                {
                    'mode': options.mode,
                    'backend': options.backend if options.mode == 'qat' else None,
                    'fused': options.fuse,
                    'batch': options.batch,
                    'threads': options.threads,
                    'steps': options.steps,
                    'stepMs': median * 1000,
                    'imagesPerSecond': options.batch / median,
                    'version': f'PyTorch {torch.__version__}, Python {platform.python_version()}',
                }
            ),
            flush=True,
        )


if __name__ == '__main__':
    main()

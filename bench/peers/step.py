"""Training steps in PyTorch eager, float or quantization-aware: the peer that `npm run bench -- engine` measures against.

Needs Debian's python3-torch (1.13); nothing else. Prints one line of JSON.

    python3 step.py --network resnet20 --mode qat --batch 64 --threads 2 --steps 12

Conv+ReLU and Linear+ReLU are fused first, as PyTorch's quantization tutorial does, so that no fake quant stands between the two.
"""

import argparse
import json
import platform
import time

import torch
import torch.ao.quantization as tq
from memory import peak_mib
from networks import networks
from torch.nn import functional as F


def build(network, mode, backend):
    torch.manual_seed(0)
    model = networks[network]().train()
    if mode == 'qat':
        if model.pairs():
            model = tq.fuse_modules_qat(model, model.pairs())
        model.qconfig = tq.get_default_qat_qconfig(backend)
        tq.prepare_qat(model, inplace=True)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--network', choices=list(networks), required=True)
    parser.add_argument('--mode', choices=['float', 'qat'], required=True)
    parser.add_argument('--backend', choices=['qnnpack', 'fbgemm'], default='qnnpack')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--warmup', type=int, default=3)
    parser.add_argument('--steps', type=int, default=12)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    model = build(options.network, options.mode, options.backend)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.01, momentum=0.9)
    x = torch.randn(options.batch, *model.sample)
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
    seconds = sorted(step() for _ in range(options.steps))
    median = seconds[(len(seconds) - 1) // 2]
    figures = {
        'stepMs': median * 1000,
        'imagesPerSecond': options.batch / median,
        'peakMiB': peak_mib(),
        'version': f'PyTorch {torch.__version__}, Python {platform.python_version()}',
    }
    print(json.dumps(figures), flush=True)


if __name__ == '__main__':
    main()

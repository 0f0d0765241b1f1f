"""Trains the small networks of `npm run bench -- tasks` and writes each with its data: make.py FOLDER

The data are drawn from a seed: shapes on a noisy ground. Each network is exported with torch.onnx.export.
  unet    a class (ground, disc, square) for every pixel of 32x32; a U-Net with transposed convolution and skips
  tagger  a class for every token: whether a letter repeats the one before it, is the largest so far, or neither
  multi   which of four shapes are in the image: independent answers
  heads   two outputs: which shape (labelled), and its centre and size (no labels)
"""
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
size = 32


def conv(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = conv(1, 12), conv(12, 24), conv(24, 32)
        self.up1, self.up2 = nn.ConvTranspose2d(32, 24, 2, 2), nn.ConvTranspose2d(24, 12, 2, 2)
        self.d, self.e = conv(48, 24), conv(24, 12)
        self.out = nn.Conv2d(12, 3, 1)

    def forward(self, x):
        a = self.a(x)
        b = self.b(F.max_pool2d(a, 2))
        c = self.c(F.max_pool2d(b, 2))
        d = self.d(torch.cat([self.up1(c), b], 1))
        return self.out(self.e(torch.cat([self.up2(d), a], 1)))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 24)
        self.a, self.b = nn.Conv1d(24, 48, 5, padding=4), nn.Conv1d(48, 48, 9, padding=8)
        self.out = nn.Linear(48, 3)

    def forward(self, x):
        n = x.shape[1]
        h = self.embed(x).transpose(1, 2)
        h = F.relu(self.a(h)[:, :, :n])
        h = F.relu(self.b(h)[:, :, :n])
        return self.out(h.transpose(1, 2))


class Net(nn.Module):
    def __init__(self, *heads):
        super().__init__()
        self.body = nn.Sequential(conv(1, 12), nn.MaxPool2d(2), conv(12, 24), nn.MaxPool2d(2), conv(24, 32), nn.MaxPool2d(2), nn.Flatten())
        self.heads = nn.ModuleList(nn.Sequential(nn.Linear(512, 48), nn.ReLU(), nn.Linear(48, n)) for n in heads)

    def forward(self, x):
        h = self.body(x)
        return tuple(head(h) for head in self.heads) if len(self.heads) > 1 else self.heads[0](h)


def draw(random, image, kind, value):
    r = random.integers(3, 7)
    y, x = random.integers(r, size - r, 2)
    yy, xx = np.mgrid[:size, :size]
    inside = [
        (yy - y) ** 2 + (xx - x) ** 2 <= r * r,
        (abs(yy - y) <= r) & (abs(xx - x) <= r),
        (abs(yy - y) + abs(xx - x)) <= r,
        ((abs(yy - y) <= 1) | (abs(xx - x) <= 1)) & (abs(yy - y) <= r) & (abs(xx - x) <= r),
    ][kind]
    image[inside] += value
    return inside, (y, x, r)


def images(seed, n):
    random = np.random.default_rng(seed)
    x = random.normal(0, 0.35, (n, 1, size, size)).astype(np.float32)
    return random, x


def unet_data(seed, n):
    random, x = images(seed, n)
    y = np.zeros((n, size, size), np.uint8)
    for i in range(n):
        for _ in range(random.integers(1, 4)):
            kind = int(random.integers(0, 2))
            inside, _ = draw(random, x[i, 0], kind, random.uniform(0.4, 1))
            y[i][inside] = kind + 1
        y[i, 0, :] = 255
    return x, y


def tagger_data(seed, n):
    random = np.random.default_rng(seed)
    x = random.integers(0, 20, (n, 16))
    again = random.random((n, 16)) < 0.3
    for t in range(1, 16):
        x[:, t] = np.where(again[:, t], x[:, t - 1], x[:, t])
    y = np.zeros((n, 16), np.int64)
    for t in range(1, 16):
        y[:, t] = np.where(x[:, t] == x[:, t - 1], 1, np.where(x[:, t] > x[:, max(0, t - 6):t].max(1), 2, 0))
    y[:, 0] = -100
    return x.astype(np.int64), y


def multi_data(seed, n):
    random, x = images(seed, n)
    y = (random.random((n, 4)) < 0.4).astype(np.uint8)
    for i in range(n):
        for kind in range(4):
            if y[i, kind]:
                draw(random, x[i, 0], kind, random.uniform(0.3, 0.8))
    return x, y


def heads_data(seed, n):
    random, x = images(seed, n)
    y = random.integers(0, 4, n)
    where = np.zeros((n, 3), np.float32)
    for i in range(n):
        where[i] = draw(random, x[i, 0], int(y[i]), random.uniform(0.35, 0.8))[1]
    return x, y.astype(np.int64), where


def train(net, batches, loss, steps, rate=2e-3):
    optimizer = torch.optim.Adam(net.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(net, *next(batches)).backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def batches(*arrays, batch=64):
    random = np.random.default_rng(1)
    tensors = [torch.from_numpy(np.asarray(a)) for a in arrays]
    while True:
        at = torch.from_numpy(random.integers(0, len(arrays[0]), batch))
        yield tuple(t[at] for t in tensors)


def save(name, net, sample, outputs, train_set, eval_set):
    torch.onnx.export(net, (torch.from_numpy(sample[:2]),), folder / f"{name}.onnx", input_names=["x"], output_names=outputs,
                      dynamo=False, dynamic_axes={key: {0: "N"} for key in ["x", *outputs]})
    np.savez(folder / f"{name}-train.npz", x=train_set[0], y=train_set[1])
    np.savez(folder / f"{name}-eval.npz", x=eval_set[0], y=eval_set[1])


torch.manual_seed(0)
torch.set_num_threads(2)

x, y = unet_data(1, 3000)
ce = lambda net, x, y: F.cross_entropy(net(x), torch.where(y == 255, -100, y.long()))
net = train(UNet(), batches(x, y, batch=32), ce, 500)
save("unet", net, x, ["y"], (x, y), unet_data(2, 500))

x, y = tagger_data(1, 6000)
net = train(Tagger(), batches(x, y), lambda net, x, y: F.cross_entropy(net(x).flatten(0, 1), y.flatten()), 800)
save("tagger", net, x, ["y"], (x, y), tagger_data(2, 1000))

x, y = multi_data(1, 5000)
net = train(Net(4), batches(x, y), lambda net, x, y: F.binary_cross_entropy_with_logits(net(x), y.float()), 600)
save("multi", net, x, ["y"], (x, y), multi_data(2, 1500))

x, y, where = heads_data(1, 5000)
two = lambda net, x, y, w: F.cross_entropy(net(x)[0], y) + 0.01 * F.mse_loss(net(x)[1], w)
net = train(Net(4, 3), batches(x, y, where), two, 600)
save("heads", net, x, ["kind", "where"], (x, y), heads_data(2, 1500)[:2])

"""Trains the float example model and cuts the example's dataset.

Needs Debian's python3-torch (1.13), python3-numpy and dataset-fashion-mnist; nothing from pip, no network.

    apt-get install -y python3-torch python3-numpy dataset-fashion-mnist
    /usr/bin/python3 examples/fashion-mnist/train.py            # model.onnx, train.zip, test.zip
    /usr/bin/python3 examples/fashion-mnist/train.py --data-only

The seed, the order of the images and the number of threads are fixed, so one machine writes the same model every time. Another
machine may differ in the last bits of its arithmetic, hence slightly in the weights. The two zips are the same bytes wherever
zlib is the same.
"""

import argparse
import gzip
import os
import struct
import time
import zipfile

import numpy as np

SOURCE = '/usr/share/datasets/fashion-mnist'
HERE = os.path.dirname(os.path.abspath(__file__))
SEED = 20240229
TRAIN_PER_CLASS = 800
CLASSES = 10


def read_idx(name):
    """Reads one gzip IDX file of unsigned bytes: magic 0x00000800 + rank, big-endian sizes, data."""
    with gzip.open(os.path.join(SOURCE, name + '.gz'), 'rb') as file:
        raw = file.read()
    zero, dtype, rank = struct.unpack('>HBB', raw[:4])
    assert (zero, dtype) == (0, 8), f'{name}: not an IDX file of unsigned bytes'
    sizes = struct.unpack(f'>{rank}I', raw[4 : 4 + 4 * rank])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(sizes)


def idx_bytes(array):
    return struct.pack(f'>HBB{array.ndim}I', 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_zip(name, images, labels, prefix):
    """Writes an IDX pair as a zip with fixed timestamps and modes, so that the same input gives the same bytes."""
    with zipfile.ZipFile(os.path.join(HERE, name), 'w') as archive:
        for entry, array in ((f'{prefix}-images-idx3-ubyte', images), (f'{prefix}-labels-idx1-ubyte', labels)):
            info = zipfile.ZipInfo(entry, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, idx_bytes(array), compresslevel=9)
    print(f'{name}: {len(labels)} images, {os.path.getsize(os.path.join(HERE, name))} bytes')


def first_of_each_class(labels, count):
    """Positions of the first `count` images of every class, in the order of the source file."""
    picked = [np.flatnonzero(labels == value)[:count] for value in range(CLASSES)]
    return np.sort(np.concatenate(picked))


def write_data():
    images, labels = read_idx('train-images-idx3-ubyte'), read_idx('train-labels-idx1-ubyte')
    chosen = first_of_each_class(labels, TRAIN_PER_CLASS)
    write_zip('train.zip', images[chosen], labels[chosen], 'train')
    write_zip('test.zip', read_idx('t10k-images-idx3-ubyte'), read_idx('t10k-labels-idx1-ubyte'), 't10k')


def train_model(epochs, batch, peak_rate, threads):
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.manual_seed(SEED)
    torch.set_num_threads(threads)

    def conv(inputs, outputs, kernel=3, groups=1):
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)
        )

    class Classifier(nn.Module):
        """Stem, residual block, depthwise-separable block, wide block: one of each thing the quantizer must place scales around."""

        def __init__(self):
            super().__init__()
            self.stem = conv(1, 16)
            self.widen = conv(16, 32)
            self.residual = conv(32, 32)
            self.depthwise = conv(32, 32, groups=32)
            self.pointwise = conv(32, 64, kernel=1)
            self.wide = conv(64, 64)
            self.pool = nn.MaxPool2d(2)
            self.average = nn.AdaptiveAvgPool2d(1)
            self.classify = nn.Linear(64, CLASSES)

        def forward(self, x):
            x = self.pool(F.relu(self.stem(x)))
            x = F.relu(self.widen(x))
            x = self.pool(F.relu(x + self.residual(x)))
            x = F.relu(self.pointwise(F.relu(self.depthwise(x))))
            x = F.relu(self.wide(x))
            return self.classify(torch.flatten(self.average(x), 1))

    def tensors(images, labels):
        return torch.from_numpy(images.astype(np.float32) / 255.0).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))

    train_x, train_y = tensors(read_idx('train-images-idx3-ubyte'), read_idx('train-labels-idx1-ubyte'))
    test_x, test_y = tensors(read_idx('t10k-images-idx3-ubyte'), read_idx('t10k-labels-idx1-ubyte'))
    model = Classifier()
    parameters = sum(p.numel() for p in model.parameters())
    print(f'torch {torch.__version__}, seed {SEED}, {threads} threads, {parameters} parameters')

    optimizer = torch.optim.SGD(model.parameters(), peak_rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = epochs * ((len(train_y) + batch - 1) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_rate, total_steps=steps, pct_start=0.2)
    order = torch.Generator().manual_seed(SEED)
    for epoch in range(epochs):
        started, total = time.time(), 0.0
        model.train()
        for rows in torch.randperm(len(train_y), generator=order).split(batch):
            x = train_x[rows]
            flip = torch.rand(len(rows), generator=order) < 0.5
            x = torch.where(flip[:, None, None, None], x.flip(3), x)
            loss = F.cross_entropy(model(x), train_y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        model.eval()
        with torch.no_grad():
            correct = sum((model(x).argmax(1) == y).sum().item() for x, y in zip(test_x.split(500), test_y.split(500)))
        print(
            f'epoch {epoch + 1}/{epochs}: loss {total / len(train_y):.4f}, test accuracy {correct / len(test_y):.4f} '
            f'({time.time() - started:.0f} s)',
            flush=True,
        )

    path = os.path.join(HERE, 'model.onnx')
    # PRESERVE on a model in eval mode keeps each BatchNormalization as a node in inference form instead of folding it into its Conv.
    torch.onnx.export(
        model.eval(),
        test_x[:1],
        path,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        opset_version=13,
        input_names=['image'],
        output_names=['logits'],
        dynamic_axes={'image': {0: 'batch'}, 'logits': {0: 'batch'}},
    )
    print(f'model.onnx: {os.path.getsize(path)} bytes')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data-only', action='store_true', help='write train.zip and test.zip, leave model.onnx alone')
    parser.add_argument('--epochs', type=int, default=8)
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--peak-rate', type=float, default=0.1)
    parser.add_argument('--threads', type=int, default=2)
    options = parser.parse_args()
    write_data()
    if not options.data_only:
        train_model(options.epochs, options.batch, options.peak_rate, options.threads)

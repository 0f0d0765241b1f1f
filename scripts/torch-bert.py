"""Trains a small BERT encoder on a toy task and exports it as PyTorch does, with three inputs.

    python3 scripts/torch-bert.py

writes packages/quant-core/src/pipeline/testing/bert.onnx, which pipeline/text.test.ts reads. Needs torch 1.13 (Debian: python3-torch).
"""

import math
import os

import numpy as np
import torch
from torch import nn

VOCAB, LENGTH, HIDDEN, HEADS, LAYERS = 24, 12, 16, 2, 2


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(HIDDEN, HIDDEN) for _ in range(3))
        self.size = HIDDEN // HEADS

    def split(self, x):
        return x.view(x.size()[:-1] + (HEADS, self.size)).permute(0, 2, 1, 3)

    def forward(self, hidden, mask):
        q, k, v = self.split(self.query(hidden)), self.split(self.key(hidden)), self.split(self.value(hidden))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(self.size)
        context = torch.matmul(nn.functional.softmax(scores + mask, dim=-1), v).permute(0, 2, 1, 3).contiguous()
        return context.view(context.size()[:-2] + (HIDDEN,))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.attention_out = SelfAttention(), nn.Linear(HIDDEN, HIDDEN)
        self.norm1, self.norm2 = nn.LayerNorm(HIDDEN, eps=1e-12), nn.LayerNorm(HIDDEN, eps=1e-12)
        self.up, self.down = nn.Linear(HIDDEN, 2 * HIDDEN), nn.Linear(2 * HIDDEN, HIDDEN)

    def forward(self, hidden, mask):
        hidden = self.norm1(self.attention_out(self.attention(hidden, mask)) + hidden)
        return self.norm2(self.down(nn.functional.gelu(self.up(hidden))) + hidden)


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(VOCAB, HIDDEN, padding_idx=0)
        self.positions, self.types = nn.Embedding(LENGTH, HIDDEN), nn.Embedding(2, HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN, eps=1e-12)
        self.register_buffer("position_ids", torch.arange(LENGTH).expand((1, -1)))
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.pooler, self.classifier = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, 2)

    def forward(self, input_ids, attention_mask, token_type_ids):
        hidden = self.words(input_ids) + self.positions(self.position_ids[:, : input_ids.size()[1]])
        hidden = hidden + self.types(token_type_ids)
        mask = (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * torch.finfo(torch.float32).min
        hidden = self.norm(hidden)
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return self.classifier(torch.tanh(self.pooler(hidden[:, 0])))


def samples(n, seed):
    """Class 1: the token 3 comes before the token 4; tokens behind the length are padding and say nothing."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, VOCAB, (n, LENGTH))
    ids[:, 0] = 1
    lengths = rng.integers(6, LENGTH + 1, n)
    labels = rng.integers(0, 2, n)
    for row in range(n):
        a, b = sorted(rng.choice(np.arange(1, lengths[row]), 2, replace=False))
        ids[row, a], ids[row, b] = (3, 4) if labels[row] else (4, 3)
    mask = (np.arange(LENGTH) < lengths[:, None]).astype(np.int64)
    types = (np.arange(LENGTH) >= LENGTH // 2).astype(np.int64) * mask
    return ids * mask, mask, types, labels


torch.manual_seed(0)
torch.set_num_threads(1)
model = Bert()
optimizer = torch.optim.Adam(model.parameters(), 3e-3)
train = [torch.from_numpy(array) for array in samples(4000, 1)]
for _ in range(10):
    for rows in torch.randperm(4000).split(64):
        loss = nn.functional.cross_entropy(model(*(array[rows] for array in train[:3])), train[3][rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
test = [torch.from_numpy(array) for array in samples(1000, 2)]
model.eval()
print("accuracy", (model(*test[:3]).argmax(1) == test[3]).float().mean().item())
names = ["input_ids", "attention_mask", "token_type_ids"]
torch.onnx.export(
    model,
    tuple(array[:2] for array in test[:3]),
    os.path.join(os.path.dirname(__file__), "../packages/quant-core/src/pipeline/testing/bert.onnx"),
    input_names=names,
    output_names=["logits"],
    opset_version=14,
    dynamic_axes={name: {0: "batch", 1: "sequence"} for name in names} | {"logits": {0: "batch"}},
)

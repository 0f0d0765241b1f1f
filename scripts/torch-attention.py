"""Small networks with attention and recurrence, exported by PyTorch for a fixed batch.

    python3 scripts/torch-attention.py

writes packages/quant-core/src/normalise/testing/attention/*.onnx, which normalise/attention.test.ts reads. The number behind `b` in a name is the
batch of the file, the one behind `o` its opset; `bopen` has the batch open. Needs torch 1.13 (Debian: python3-torch).
"""

import os
import warnings

import torch
from torch import nn

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
torch.manual_seed(0)
folder = os.path.join(os.path.dirname(__file__), "../packages/quant-core/src/normalise/testing/attention")
os.makedirs(folder, exist_ok=True)


def spelled_out(model):
    """Without the fused kernels of eval mode, which cannot be exported: attention believes that it trains (its dropout is 0)."""
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.training = True
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
    return model


class SelfAttention(nn.Module):
    """Samples first, or time first inside."""

    def __init__(self, batch_first, dim=8, heads=2):
        super().__init__()
        self.batch_first = batch_first
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=batch_first)
        self.head = nn.Linear(dim, 3)

    def forward(self, x):
        if not self.batch_first:
            x = x.transpose(0, 1)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(x.mean(1 if self.batch_first else 0))


class CrossAttention(nn.Module):
    """Learned queries read the sample; the weights of attention are part of the result."""

    def __init__(self, dim=8, heads=2):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(3, 1, dim))
        self.attention = nn.MultiheadAttention(dim, heads)

    def forward(self, x):
        x = x.transpose(0, 1)
        y, weights = self.attention(self.queries.expand(-1, x.size(1), -1), x, x)
        return (y.transpose(0, 1) @ x.permute(1, 2, 0)).flatten(1) + weights.flatten(1)


class Encoder(nn.Module):
    def __init__(self, batch_first, norm_first=False, causal=False, dim=8, heads=2):
        super().__init__()
        layer = nn.TransformerEncoderLayer(dim, heads, 16, dropout=0.0, batch_first=batch_first, norm_first=norm_first, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.batch_first, self.causal = batch_first, causal
        self.head = nn.Linear(dim, 3)

    def forward(self, x):
        if not self.batch_first:
            x = x.transpose(0, 1)
        mask = nn.Transformer.generate_square_subsequent_mask(5) if self.causal else None
        x = self.encoder(x, mask)
        return self.head(x[:, -1] if self.batch_first else x[-1])


class Vit(nn.Module):
    def __init__(self, batch_first, dim=8, heads=2):
        super().__init__()
        self.batch_first = batch_first
        self.patches = nn.Conv2d(3, dim, 4, stride=4)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, dim)), nn.Parameter(torch.randn(1, 5, dim))
        layer = nn.TransformerEncoderLayer(dim, heads, 16, dropout=0.0, batch_first=batch_first, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.head = nn.Linear(dim, 3)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.size(0), -1, -1), x], 1) + self.positions
        if self.batch_first:
            return self.head(self.encoder(x)[:, 0])
        return self.head(self.encoder(x.transpose(0, 1))[0])


class Windows(nn.Module):
    """As in Swin: shifted windows become rows of the batch, with a mask for each window."""

    def __init__(self, dim=8, heads=2, window=2):
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv, self.head = nn.Linear(dim, 3 * dim), nn.Linear(dim, 3)
        self.bias = nn.Parameter(torch.randn(heads, window * window, window * window))
        self.register_buffer("mask", (torch.rand(4, window * window, window * window) > 0.8) * -100.0)

    def forward(self, x):
        w = self.window
        n, c, height, width = x.shape
        x = torch.roll(x.permute(0, 2, 3, 1), (-1, -1), (1, 2))
        x = x.view(n, height // w, w, width // w, w, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, w * w, c)
        rows, length, _ = x.shape
        q, k, v = self.qkv(x).reshape(rows, length, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) + self.bias.unsqueeze(0)
        scores = scores.view(rows // 4, 4, self.heads, length, length) + self.mask.unsqueeze(1).unsqueeze(0)
        x = scores.view(-1, self.heads, length, length).softmax(-1) @ v
        x = x.transpose(1, 2).reshape(n, height // w, width // w, w, w, c).permute(0, 1, 3, 2, 4, 5).reshape(n, height * width, c)
        return self.head(x.mean(1))


class Recurrent(nn.Module):
    def __init__(self, kind, dim=6):
        super().__init__()
        self.cells = kind(dim, 8, batch_first=True, bidirectional=True, num_layers=2)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.cells(x)[0][:, -1])


class MixesSamples(nn.Module):
    """Samples attend to one another: the batch stands where time should."""

    def __init__(self, dim=8):
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, 2)
        self.head = nn.Linear(dim, 3)

    def forward(self, x):
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


def export(name, model, shape, batch, opset):
    example = torch.randn(batch or 2, *shape)
    torch.onnx.export(
        spelled_out(model),
        example,
        os.path.join(folder, f"{name}-b{batch or 'open'}-o{opset}.onnx"),
        input_names=["x"],
        output_names=["y"],
        opset_version=opset,
        training=torch.onnx.TrainingMode.PRESERVE,
        dynamic_axes=None if batch else {"x": {0: "batch"}, "y": {0: "batch"}},
    )


for batch, opset in [(1, 13), (4, 17), (None, 14)]:
    export("samples-first", SelfAttention(True), (5, 8), batch, opset)
    export("time-first", SelfAttention(False), (5, 8), batch, opset)
for batch, opset in [(1, 15), (4, 13), (None, 16)]:
    export("encoder", Encoder(True), (5, 8), batch, opset)
    export("encoder-time-first", Encoder(False, norm_first=True, causal=True), (5, 8), batch, opset)
for batch, opset in [(1, 14), (4, 16), (None, 17)]:
    export("vit", Vit(True), (3, 8, 8), batch, opset)
    export("vit-time-first", Vit(False), (3, 8, 8), batch, opset)
for batch, opset in [(1, 17), (3, 13)]:
    export("cross", CrossAttention(), (5, 8), batch, opset)
    export("windows", Windows(), (8, 4, 4), batch, opset)
    export("lstm", Recurrent(nn.LSTM), (5, 6), batch, opset)
    export("gru", Recurrent(nn.GRU), (5, 6), batch, opset)
    export("mixes", MixesSamples(), (5, 8), batch, opset)

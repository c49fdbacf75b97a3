# SPDX-License-Identifier: MIT
"""A transformer block with torch.nn.LayerNorm, and the same one with Lamina's fused norms.

Checks that both give the same result and gradients, then times a training step of a stack of blocks.

    python3 examples/pytorch/transformer_block.py [--compile] [--width 1024] [--blocks 8] ...
"""

import argparse
import statistics

import torch
import torch.nn.functional as F
from torch import nn

from lamina_norm import FusedLayerNorm


class Block(nn.Module):
    """Pre-norm block. x: [batch, tokens, width]."""

    def __init__(self, width, heads, norm):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = norm(width), norm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def attention(self, x):
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.project(out.transpose(1, 2).flatten(2))

    def mlp(self, x):
        return self.contract(F.gelu(self.expand(x), approximate="tanh"))


class TorchStack(nn.Module):
    """The blocks as they are usually written: an addition, then a norm."""

    def __init__(self, width, heads, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, nn.LayerNorm) for _ in range(blocks))
        self.last = nn.LayerNorm(width)

    def forward(self, x):
        for block in self.blocks:
            x = x + block.attention(block.norm1(x))
            x = x + block.mlp(block.norm2(x))
        return self.last(x)


class FusedStack(nn.Module):
    """The same parameters; each addition happens in the norm that follows it."""

    def __init__(self, width, heads, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, FusedLayerNorm) for _ in range(blocks))
        self.last = FusedLayerNorm(width)

    def forward(self, x):
        branch = None  # what is still to be added to x
        for block in self.blocks:
            x, y = (x, block.norm1(x)) if branch is None else block.norm1.add_and_norm(x, branch)
            x, y = block.norm2.add_and_norm(x, block.attention(y))
            branch = block.mlp(y)
        return self.last(x) if branch is None else self.last.add_and_norm(x, branch)[1]


def train_step(model, x, dy):
    model.zero_grad(set_to_none=True)
    out = model(x)
    out.backward(dy)
    return out


def milliseconds(model, x, dy, steps):
    """Median time of a step on the device: a CUDA graph of it is replayed, so that launches do not count."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            train_step(model, x, dy)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    model.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        train_step(model, x, dy)
    times = []
    for _ in range(steps):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return statistics.median(times)


def relative_error(actual, expected):
    return ((actual - expected).norm() / expected.norm()).item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8, help="sequences")
    parser.add_argument("--tokens", type=int, default=1024, help="per sequence")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30, help="timed; the median is printed")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="bfloat16")
    parser.add_argument("--compile", action="store_true", help="torch.compile(fullgraph=True) both")
    options = parser.parse_args()

    torch.manual_seed(0)
    dtype = getattr(torch, options.dtype)
    theirs = TorchStack(options.width, options.heads, options.blocks).to("cuda", dtype)
    ours = FusedStack(options.width, options.heads, options.blocks).to("cuda", dtype)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(options.batch, options.tokens, options.width, device="cuda", dtype=dtype)
    dy = torch.randn_like(x)

    errors = {"output": relative_error(train_step(ours, x, dy), train_step(theirs, x, dy))}
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters()):
        errors[f"gradient of {name}"] = relative_error(a.grad, b.grad)
    worst = max(errors, key=errors.get)
    print(f"largest relative difference: {errors[worst]:.2e} ({worst})")
    limit = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 6e-2}[dtype]  # orders of addition differ
    if not errors[worst] < limit:
        raise SystemExit(f"transformer_block: {worst} differs by {errors[worst]}, expected less than {limit}")

    if options.compile:
        theirs, ours = (torch.compile(model, fullgraph=True) for model in (theirs, ours))
    print(f"{torch.cuda.get_device_name()}, {options.dtype}, batch {options.batch}, tokens {options.tokens}, "
          f"width {options.width}, {options.blocks} blocks, forward and backward, median of {options.steps}")
    baseline, fused = (milliseconds(model, x, dy, options.steps) for model in (theirs, ours))
    print(f"torch.nn.LayerNorm  {baseline:8.3f} ms")
    print(f"FusedLayerNorm      {fused:8.3f} ms  ({baseline / fused:.3f} times as fast)")


if __name__ == "__main__":
    main()

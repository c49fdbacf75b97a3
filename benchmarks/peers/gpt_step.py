# SPDX-License-Identifier: MIT
"""Times the training step of a GPT-2 in PyTorch: what benchmarks/training_step.py compares Lamina with.

Usage: python3 benchmarks/peers/gpt_step.py RESULT.json [--cases NAME...] [--variants NAME...] [--quick]

A step is forward, backward, clipping of the gradient norm to 1 and fused AdamW, on random tokens that lie on
the device. Weights are f32 and computed with in bf16 (torch.autocast). The vocabulary is padded to a
multiple of 64 and the padding takes part in the loss, as PyTorch has no cheaper way.
Variants are MODE-ATTENTION. MODE: eager; compile: torch.compile of model and loss; graphs: the same with
mode="reduce-overhead", CUDA graphs; autotune: with mode="max-autotune", graphs and kernels chosen by time.
ATTENTION: the backend of scaled_dot_product_attention, flash or cudnn.
Each runs in a process of its own. A step's time lies between two events on the device, and the host waits
for the device only after the last one. What fails is named in the JSON with the reason.
"""
import argparse
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from gpt_cases import CASES, MIN_STEPS, line_of, missing, result, write
from gpt_training import output_of

MODES = ("eager", "compile", "graphs", "autotune")
COMPILE_MODES = {"compile": "default", "graphs": "reduce-overhead", "autotune": "max-autotune"}
ATTENTIONS = ("flash", "cudnn")
VARIANTS = tuple(f"{mode}-{attention}" for mode in MODES for attention in ATTENTIONS)
QUICK_CASES, QUICK_VARIANTS = ("toy", "gpt2_b4"), ("eager-flash",)
STEPS, QUICK_STEPS = 100, 20
WARMUP = 20  # steps; compiles, captures, and fills the caches
BATCHES = 8  # of tokens, in turn
SECONDS = 900  # for one process


def make_model(case):
    """GPT-2 (Radford et al. 2019): pre-norm blocks, learned positions, tied head."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(case.width, 3 * case.width, bias=case.bias)
            self.project = nn.Linear(case.width, case.width, bias=case.bias)

        def forward(self, x):
            batch, time, width = x.shape
            parts = self.qkv(x).view(batch, time, 3, case.heads, width // case.heads)
            q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)  # each [batch, heads, time, head size]
            y = functional.scaled_dot_product_attention(
                q, k, v, is_causal=True, dropout_p=case.dropout if self.training else 0.0)
            return self.project(y.transpose(1, 2).reshape(batch, time, width))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm_1 = nn.LayerNorm(case.width, bias=case.bias)
            self.attention = Attention()
            self.norm_2 = nn.LayerNorm(case.width, bias=case.bias)
            self.up = nn.Linear(case.width, 4 * case.width, bias=case.bias)
            self.down = nn.Linear(4 * case.width, case.width, bias=case.bias)
            self.dropout = nn.Dropout(case.dropout)

        def forward(self, x):
            x = x + self.dropout(self.attention(self.norm_1(x)))
            hidden = functional.gelu(self.up(self.norm_2(x)), approximate="tanh")
            return x + self.dropout(self.down(hidden))

    class Gpt(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(case.padded_vocab, case.width)
            self.positions = nn.Embedding(case.context, case.width)
            self.dropout = nn.Dropout(case.dropout)
            self.blocks = nn.ModuleList(Block() for _ in range(case.layers))
            self.norm = nn.LayerNorm(case.width, bias=case.bias)
            self.apply(self.start)
            for block in self.blocks:
                for last in (block.attention.project, block.down):
                    nn.init.normal_(last.weight, std=0.02 / (2 * case.layers) ** 0.5)

        @staticmethod
        def start(module):
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

        def forward(self, ids, targets):
            places = torch.arange(ids.shape[1], device=ids.device)
            x = self.dropout(self.tokens(ids) + self.positions(places))
            for block in self.blocks:
                x = block(x)
            logits = functional.linear(self.norm(x), self.tokens.weight)
            return functional.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))

    return Gpt()


def make_optimizer(model):
    """AdamW; matrices decay, vectors do not."""
    import torch
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95), fused=True)


def time_steps(case, mode, attention, steps):
    """Milliseconds of each step after the warm-up, and the bytes that PyTorch has taken at most."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    torch.manual_seed(1337)
    torch.set_float32_matmul_precision("high")
    model = make_model(case).to("cuda").train()
    optimizer = make_optimizer(model)
    tokens = torch.randint(case.vocab, (BATCHES, case.batch, case.context + 1), device="cuda")
    batches = [(ids[:, :-1].contiguous(), ids[:, 1:].contiguous()) for ids in tokens]
    loss_of = model
    if mode != "eager":
        loss_of = torch.compile(model, mode=COMPILE_MODES[mode])
    backend = SDPBackend.FLASH_ATTENTION if attention == "flash" else SDPBackend.CUDNN_ATTENTION

    def step(number):
        if mode in ("graphs", "autotune"):
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = loss_of(*batches[number % BATCHES])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    events = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
    with sdpa_kernel(backend):
        for number in range(WARMUP):
            loss = step(number)
        first = loss.item()
        for number in range(steps):
            events[number].record()
            loss = step(number)
        events[-1].record()
        torch.cuda.synchronize()
    if not 0.0 < loss.item() < 2.0 * first:
        raise ArithmeticError(f"the loss is {loss.item():.3f}, expected about {first:.3f} (that of random tokens)")
    ms = [begin.elapsed_time(end) for begin, end in zip(events, events[1:])]
    return ms, torch.cuda.max_memory_reserved()


def measure(name, variant, steps):
    """The row of one case and variant, in this process."""
    import torch
    if not torch.cuda.is_available():
        return missing(name, "pytorch", variant, "no CUDA device")
    mode, attention = variant.split("-")
    try:
        ms, memory = time_steps(CASES[name], mode, attention, steps)
    except Exception as error:  # whatever PyTorch throws: the other variants go on
        return missing(name, "pytorch", variant, f"{type(error).__name__}: {error}".splitlines()[0][:200])
    command = f"python3 benchmarks/peers/gpt_step.py RESULT.json --cases {name} --variants {variant}"
    return {**result(name, "pytorch", variant, ms, 1, memory, command), "torch": torch.__version__}


def measure_apart(name, variant, steps):
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--one", name, variant, "--steps", str(steps)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return missing(name, "pytorch", variant, f"not done after {SECONDS} s")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
        return missing(name, "pytorch", variant, f"exit status {done.returncode}: {last[:200]}")
    return json.loads(done.stdout.splitlines()[-1])


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", nargs="?", type=pathlib.Path, help="JSON, rewritten after each row")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--steps", type=int, default=STEPS, help=f"timed steps, at least {MIN_STEPS} for a result")
    parser.add_argument("--quick", action="store_true",
                        help=f"only {', '.join(QUICK_CASES)}, {QUICK_VARIANTS[0]}, {QUICK_STEPS} steps: "
                        "shows that it runs")
    parser.add_argument("--commit", default=output_of(["git", "rev-parse", "HEAD"]))
    parser.add_argument("--one", nargs=2, metavar=("CASE", "VARIANT"), help="print the row of one, in this process")
    args = parser.parse_args()
    if args.quick:
        args.cases, args.variants, args.steps = QUICK_CASES, QUICK_VARIANTS, QUICK_STEPS
    elif args.steps < MIN_STEPS and not args.one:
        parser.error(f"--steps is {args.steps}, expected at least {MIN_STEPS}; --quick shows that it runs")
    if not args.one and not args.result:
        parser.error("RESULT.json is missing")
    return args


def main():
    args = parse_arguments()
    if args.one:
        print(json.dumps(measure(*args.one, args.steps)))
        return
    rows = []
    for name in args.cases:
        for variant in args.variants:
            rows.append(measure_apart(name, variant, args.steps))
            print(line_of(rows[-1]), flush=True)
            write(args.result, rows, args.commit)


if __name__ == "__main__":
    main()

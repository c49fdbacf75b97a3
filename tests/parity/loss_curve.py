# SPDX-License-Identifier: MIT
"""The loss while training: the example's GPT in bf16 beside PyTorch's GPT-2 (transformers) in bf16.

Usage: python3 tests/parity/loss_curve.py PATH/TO/loss_curve RESULT.json [--steps 1000] [--residual f32]

Both start from the same weights, rounded to bf16, and see the same batches of the standard corpus in the same
order: AdamW on f32 master weights, the same learning rates, clipping to 1, no dropout. PyTorch computes under
torch.autocast, where its residual stream is f32. --dtype f32 compares f32 with f32, also with --device cpu.
The curves are smoothed by a running mean over 50 steps; the largest difference between them must stay within
0.01 nats. Two runs of PyTorch that differ only in the rounding of the attention (its flash and its plain
kernels) give the scale: how far runs part by rounding alone.

RESULT.json has a list of runs; a run takes the place of one with the same settings.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2_parity import lamina_names

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "benchmarks"))

from gpt_training import machine, output_of, today

LIMIT = 0.01  # nats
WINDOW = 50  # steps
SETTINGS = ("layers", "heads", "width", "vocab", "context", "batch", "steps", "dtype", "residual", "lr", "seed")


def smoothed(losses):
    return torch.tensor(losses, dtype=torch.float64).unfold(0, min(WINDOW, len(losses)), 1).mean(-1)


def run_lamina(args, model, config, folder):
    """Losses, learning rates and tokens of each step."""
    source, target = folder / "in.safetensors", folder / "out.safetensors"
    parameters = dict(model.named_parameters())
    weights = {}
    for ours, (theirs, transposed) in lamina_names(args.layers).items():
        value = parameters[theirs].detach()
        weights[ours] = (value.T if transposed else value).float().cpu().contiguous()
    save_file(weights, str(source))
    subprocess.run([args.program, source, target, args.device, args.dtype, str(args.layers), str(args.heads),
                    args.residual, str(args.steps), str(args.batch), str(config.n_positions), str(args.lr)], check=True)
    run = load_file(str(target))
    return run["loss"].tolist(), run["lr"].tolist(), run["tokens"]


def run_torch(args, model, attention, rates, tokens):
    """Losses of each step. Changes the model."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1},
                                   {"params": vectors, "weight_decay": 0.0}], betas=(0.9, 0.95))
    losses = []
    device = torch.device(args.device)
    with sdpa_kernel({"flash": SDPBackend.FLASH_ATTENTION, "math": SDPBackend.MATH}[attention]):
        for rate, (inputs, targets) in zip(rates, tokens):
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=args.dtype == "bf16"):
                logits = model(inputs.to(device)).logits
            loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1),
                                                     targets.to(device).flatten().long())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
    return losses


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("result", type=pathlib.Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--vocab", type=int, default=96, help="of the built-in corpus")
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--dtype", choices=("bf16", "f32"), default="bf16")
    parser.add_argument("--residual", choices=("same", "f32"), default="same", help="Lamina's residual stream")
    parser.add_argument("--lr", type=float, default=6e-4, help="the highest, after a tenth of the steps; cosine to its tenth")
    parser.add_argument("--seed", type=int, default=1, help="of the first weights")
    parser.add_argument("--commit", default=output_of(["git", "rev-parse", "HEAD"]))
    args = parser.parse_args()

    config = GPT2Config(n_layer=args.layers, n_head=args.heads, n_embd=args.width, vocab_size=args.vocab,
                        n_positions=args.context, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
    torch.manual_seed(args.seed)
    model = GPT2LMHeadModel(config).to(args.device)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16().float())
    start = {name: value.clone() for name, value in model.state_dict().items()}

    with tempfile.TemporaryDirectory() as name:
        ours, rates, tokens = run_lamina(args, model, config, pathlib.Path(name))
    theirs = {}
    for attention in ("flash", "math"):
        model.load_state_dict(start)
        theirs[attention] = run_torch(args, model, attention, rates, tokens)

    def distance(a, b):
        return (smoothed(a) - smoothed(b)).abs().max().item()

    largest = distance(ours, theirs["flash"])
    run = {
        "date": today(), "commit": args.commit, "machine": machine(), "torch": torch.__version__,
        "command": "python3 tests/parity/loss_curve.py PROGRAM RESULT.json "
                   + " ".join(word for word in sys.argv[1:] if word not in (args.program, str(args.result))),
        "settings": {name: getattr(args, name) for name in SETTINGS},
        "window": WINDOW, "limit": LIMIT, "largest_difference": largest,
        "largest_difference_within_pytorch": distance(theirs["flash"], theirs["math"]),
        "loss": {"lamina": ours, "pytorch_flash": theirs["flash"], "pytorch_math": theirs["math"]},
    }
    others = json.loads(args.result.read_text(encoding="utf-8"))["runs"] if args.result.exists() else []
    runs = [other for other in others if other["settings"] != run["settings"]] + [run]
    args.result.parent.mkdir(parents=True, exist_ok=True)
    args.result.write_text(json.dumps({"runs": runs}) + "\n", encoding="utf-8")
    print(f"largest difference {largest:.4f} nats, limit {LIMIT}; within PyTorch "
          f"{run['largest_difference_within_pytorch']:.4f}; last losses {ours[-1]:.4f} and "
          f"{theirs['flash'][-1]:.4f}")
    return 0 if largest <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())

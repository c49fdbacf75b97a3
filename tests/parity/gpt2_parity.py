# SPDX-License-Identifier: MIT
"""The example's GPT against PyTorch's GPT-2 (transformers): logits, loss and every gradient.

Usage: python3 tests/parity/gpt2_parity.py PATH/TO/gpt2_parity [--device cuda] [--json FILE]
f32: relative norm of the difference to PyTorch in f32. bf16: error of both against PyTorch in f64 on
the bf16-rounded weights; the ratio is Lamina's error over PyTorch's.
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

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "benchmarks"))

from gpt_training import machine, output_of, today

LIMITS = {"f32 logits": 2e-5, "f32 loss": 1e-5, "f32 gradient": 1e-4, "bf16 ratio": 1.1}


def lamina_names(layers):
    """PyTorch's name of every parameter, and whether PyTorch stores it transposed."""
    names = {
        "tokens.weight": ("transformer.wte.weight", False),
        "positions.weight": ("transformer.wpe.weight", False),
        "norm.weight": ("transformer.ln_f.weight", False),
        "norm.bias": ("transformer.ln_f.bias", False),
    }
    for i in range(layers):
        for ours, theirs in (("norm_1", "ln_1"), ("norm_2", "ln_2"), ("attention.qkv", "attn.c_attn"),
                             ("attention.project", "attn.c_proj"), ("mlp.up", "mlp.c_fc"),
                             ("mlp.down", "mlp.c_proj")):
            for kind in ("weight", "bias"):
                transposed = kind == "weight" and "norm" not in ours
                names[f"blocks.{i}.{ours}.{kind}"] = (f"transformer.h.{i}.{theirs}.{kind}", transposed)
    return names


def run_torch(model, ids, targets, names, dtype):
    model = model.to(dtype)
    model.zero_grad(set_to_none=True)
    logits = model(ids).logits
    wide = logits.to(torch.float64 if dtype == torch.float64 else torch.float32)
    loss = torch.nn.functional.cross_entropy(wide.flatten(0, 1), targets.flatten().long())
    loss.backward()
    parameters = dict(model.named_parameters())
    out = {"logits": logits.detach().double(), "loss": loss.detach().double()}
    for ours, (theirs, transposed) in names.items():
        grad = parameters[theirs].grad
        out[ours] = (grad.T if transposed else grad).double()
    return out


def run_lamina(program, weights, ids, targets, device, dtype, config, folder):
    source, target = folder / "in.safetensors", folder / "out.safetensors"
    tensors = {name: value.float().cpu().contiguous() for name, value in weights.items()}
    tensors["ids"], tensors["targets"] = ids.int().cpu(), targets.int().cpu()
    save_file(tensors, str(source))
    subprocess.run([program, source, target, device, dtype, str(config.n_layer), str(config.n_head)],
                   check=True)
    return {name: value.double().to(ids.device) for name, value in load_file(str(target)).items()}


def relative(a, b):
    return (torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b)).item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--vocab", type=int, default=50257)
    parser.add_argument("--time", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--json")
    parser.add_argument("--commit", default=output_of(["git", "rev-parse", "HEAD"]))
    args = parser.parse_args()

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.manual_seed(1)
    config = GPT2Config(n_layer=args.layers, n_head=args.heads, n_embd=args.width,
                        vocab_size=args.vocab, n_positions=max(1024, args.time), attn_pdrop=0.0,
                        embd_pdrop=0.0, resid_pdrop=0.0)
    model = GPT2LMHeadModel(config).to(args.device)
    with torch.no_grad():  # every parameter must matter, the biases and norms too
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    names = lamina_names(args.layers)
    ids = torch.randint(args.vocab, (args.batch, args.time), device=args.device)
    targets = torch.randint(args.vocab, (args.batch, args.time), device=args.device)

    def weights():
        parameters = dict(model.named_parameters())
        return {ours: (parameters[theirs].detach().T if transposed else parameters[theirs].detach())
                for ours, (theirs, transposed) in names.items()}

    results, failed = {}, []

    def note(key, value, limit):
        results[key] = value
        passed = value <= limit
        print(f"{key:28s} {value:.3e}  limit {limit:.1e}  {'ok' if passed else 'FAILED'}")
        if not passed:
            failed.append(key)

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        theirs = run_torch(model, ids, targets, names, torch.float32)
        ours = run_lamina(args.program, weights(), ids, targets, args.device, "f32", config, folder)
        note("f32 logits", relative(ours["logits"], theirs["logits"]), LIMITS["f32 logits"])
        note("f32 loss", abs(ours["loss"] - theirs["loss"]).item(), LIMITS["f32 loss"])
        worst = max(names, key=lambda n: relative(ours[n], theirs[n]))
        note("f32 gradient", relative(ours[worst], theirs[worst]), LIMITS["f32 gradient"])
        print(f"  worst gradient: {worst}")

        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.bfloat16().float())
        rounded = weights()
        exact = run_torch(model, ids, targets, names, torch.float64)
        model.float()
        theirs = run_torch(model, ids, targets, names, torch.bfloat16)
        ours = run_lamina(args.program, rounded, ids, targets, args.device, "bf16", config, folder)
        for key in ("logits", "all gradients"):
            pick = [key] if key == "logits" else list(names)
            join = lambda run: torch.cat([run[n].flatten() for n in pick])
            our_error, their_error = relative(join(ours), join(exact)), relative(join(theirs), join(exact))
            results[f"bf16 {key} error"] = {"lamina": our_error, "pytorch": their_error}
            print(f"bf16 {key}: error against f64 {our_error:.3e}, PyTorch's {their_error:.3e}")
            note(f"bf16 ratio, {key}", our_error / their_error, LIMITS["bf16 ratio"])
    if args.json:
        results["shape"] = (f"{args.layers} layers, {args.heads} heads, width {args.width}, vocabulary "
                            f"{args.vocab}, {args.batch} x {args.time} tokens")
        results["torch"] = torch.__version__
        origin = {"commit": args.commit, "date": today(), "machine": machine(),
                  "command": "python3 tests/parity/gpt2_parity.py PROGRAM --json RESULT.json"}
        pathlib.Path(args.json).write_text(json.dumps({**origin, **results}, indent=2) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

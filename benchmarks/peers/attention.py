# SPDX-License-Identifier: MIT
"""Times attention in bf16, Lamina's beside FlashAttention 2 and cuDNN's in PyTorch, as JSON.

Usage: python3 benchmarks/peers/attention.py RESULT.json PROGRAM

PROGRAM is attention_bench, whose shapes are measured. All work on queries, keys and values as they lie in the output of
one linear layer, [batch, time, 3, heads, head size]. Lamina writes their gradients there, too; PyTorch writes three
tensors. A time is that of one of ten calls between two events on the device, the host ahead of it; the median of nine
such, and the coefficient of variation. FLOPs: 4 batch heads time^2 head_size in the forward pass, 2.5 times that in
the backward pass, half of both when causal.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from gpt_training import machine, output_of, today

CALLS, REPEATS = 10, 9
AHEAD = 4_000_000  # cycles for which the device sleeps, so that the host can queue all calls


def flops(shape, backward):
    products = 4 * shape["batch"] * shape["heads"] * shape["time"] ** 2 * shape["head_size"]
    return products * (2.5 if backward else 1.0) * (0.5 if shape["causal"] else 1.0)


def cell(microseconds, variation, work):
    return {"us": round(microseconds, 2), "variation": round(variation, 4),
            "tflops": round(work / microseconds * 1e-6, 1)}


def lamina(program):
    """Rows of attention_bench: shape, pass, and its own cell."""
    run = subprocess.run([program, f"--benchmark_repetitions={REPEATS}", "--benchmark_report_aggregates_only=true",
                          "--benchmark_min_time=0.01", "--benchmark_format=json"],
                         check=True, capture_output=True, text=True)
    rows = {}
    for entry in json.loads(run.stdout)["benchmarks"]:
        if entry["aggregate_name"] in ("median", "cv"):
            name, *arguments = (part for part in entry["run_name"].split("/") if ":" in part or "attention" in part)
            shape = {key: int(value) for key, value in (argument.split(":") for argument in arguments)
                     if key not in ("repeats", "iterations")}
            row = rows.setdefault(entry["run_name"], {"shape": shape, "backward": name.endswith("backward")})
            row[entry["aggregate_name"]] = entry["real_time"]
    return [{"shape": row["shape"], "backward": row["backward"],
             "lamina": cell(row["median"], row["cv"], flops(row["shape"], row["backward"]))} for row in rows.values()]


def microseconds_of(call):
    import torch
    for _ in range(3):
        call()
    times = []
    for _ in range(REPEATS):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(AHEAD)
        start.record()
        for _ in range(CALLS):
            call()
        stop.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(stop) * 1e3 / CALLS)
    return times


def pytorch(shape, backward, backend):
    """The cell of one of PyTorch's backends, or why there is none."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    qkv = torch.randn(shape["batch"], shape["time"], 3, shape["heads"], shape["head_size"], device="cuda",
                      dtype=torch.bfloat16)
    q, k, v = (part.detach().requires_grad_() for part in qkv.permute(2, 0, 3, 1, 4).unbind(0))

    def forward():
        return torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=bool(shape["causal"]), dropout_p=shape["drop_percent"] / 100)

    try:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION if backend == "flash" else SDPBackend.CUDNN_ATTENTION):
            out = forward()
            dout = torch.randn_like(out)
            times = microseconds_of((lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True))
                                    if backward else forward)
    except RuntimeError as error:
        return {"missing": str(error).splitlines()[0][:200]}
    return cell(statistics.median(times), statistics.stdev(times) / statistics.mean(times), flops(shape, backward))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=pathlib.Path)
    parser.add_argument("program", help="attention_bench")
    parser.add_argument("--commit", default=output_of(["git", "rev-parse", "HEAD"]))
    args = parser.parse_args()
    import torch
    rows = lamina(args.program)
    for row in rows:
        for backend in ("flash", "cudnn"):
            row[backend] = pytorch(row["shape"], row["backward"], backend)
        print(json.dumps(row), flush=True)
    document = {"commit": args.commit, "date": today(), "machine": machine(), "torch": torch.__version__,
                "cudnn": torch.backends.cudnn.version(), "rows": rows,
                "command": "python3 benchmarks/peers/attention.py RESULT.json build/cuda/benchmarks/attention_bench"}
    args.result.parent.mkdir(parents=True, exist_ok=True)
    args.result.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

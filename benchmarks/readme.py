# SPDX-License-Identifier: MIT
"""Writes the generated parts of README.md: the tables of results from the JSON under benchmarks/results,
and the example from examples/readme_example/main.cpp. A part is what lies between "<!-- NAME, written by
benchmarks/readme.py -->" and the next "<!-- end -->".

Usage: python3 benchmarks/readme.py [--check]     --check fails when README.md is not up to date
"""
import json
import pathlib
import re
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
END = "<!-- end -->"


def load(name):
    return json.loads((ROOT / "benchmarks" / "results" / name).read_text(encoding="utf-8"))


def speed(result):
    ms = result["ms_per_step"]
    return (f"{ms['median']:.1f} ms/step ({ms['p10']:.1f} to {ms['p90']:.1f}), "
            f"{result['tokens_per_second'] / 1e3:,.0f} k tokens/s")


def table(header, rows):
    lines = ["| " + " | ".join(line) + " |" for line in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def training():
    cpu = load("epyc-2-cores/toy_cpu.json")
    shakespeare = load("nvidia-h200/shakespeare.json")
    gpt2 = load("nvidia-h200/gpt2_124m.json")
    toy, large = cpu["runs"][0], gpt2["runs"][0]
    losses = [result["best_val_loss"] for result in shakespeare["runs"]]
    rows = [
        ("toy-cpu, 4 x 128, f32", f"{cpu['machine']['cores']} cores of an {cpu['machine']['cpu']}", speed(toy),
         f"{toy['excess']:+.4f} ± {toy['excess_sigma']:.4f} nats over the floor of the corpus after "
         f"{toy['seconds']:.0f} s"),
        ("toy, 6 x 384, bf16, tinyshakespeare", "H200", speed(shakespeare["runs"][0]),
         f"best validation loss {statistics.median(losses):.4f} (median of {len(losses)} seeds, "
         f"{min(losses):.4f} to {max(losses):.4f})"),
        ("GPT-2 124M, 16 x 1024 tokens, bf16", "H200", speed(large),
         f"{large['steps']} steps, {large['skipped_steps']} of them skipped as not finite; peak memory "
         f"{large['peak_memory_bytes'] / 2**30:.1f} GiB"),
    ]
    return table(("model", "machine", "speed", "outcome"), rows)


def layer_norm_cell(row):
    """Lamina's time, and that of the fastest other implementation with its name."""
    names = {"eager": "PyTorch", "compile": "torch.compile", "triton": "Triton", "liger": "Liger", "quack": "Quack"}
    ours = row["us"]["lamina"]["median"]
    others = {name: row["us"][name]["median"] for name in names if row["us"].get(name)}
    best = min(others, key=others.get)
    return f"**{ours:.1f}** / {others[best]:.1f} {names[best]}"


def layer_norm():
    ops = {"forward": "forward", "add_forward": "residual + forward", "forward_backward": "forward + backward"}
    document = load("nvidia-h200/layer_norm_peers.json")
    shapes = {}
    for row in document["rows"]:
        shapes.setdefault((row["dtype"], row["rows"], row["cols"]), {})[row["op"]] = row
    rows = [(f"{dtype} {rows} x {cols}", *(layer_norm_cell(found[op]) for op in ops),
             f"{found['forward']['copy']['median'] / found['forward']['us']['lamina']['median']:.0%}")
            for (dtype, rows, cols), found in shapes.items()]
    header = ("rows x cols", *(f"{title}, µs" for title in ops.values()), "forward / copy")
    return "\n".join([
        "![GB/s over the row size](docs/kernels/layer_norm_bf16_bandwidth.svg)", "", table(header, rows), "",
        f"Lamina / the fastest of the others. {document['machine']['gpu']}, driver {document['machine']['driver']}, "
        f"PyTorch {document['machine']['torch']}, {document['date']}; `{document['command']}`"])


def example():
    lines = (ROOT / "examples" / "readme_example" / "main.cpp").read_text(encoding="utf-8").splitlines()
    return "\n".join(["```cpp", *lines[2:], "```"])  # without the licence and the first comment


PARTS = {"example": example, "results": training, "layer_norm": layer_norm}


def generate(text):
    """README.md with its parts written anew."""
    begin = re.compile(r"<!-- (\w+), written by benchmarks/readme.py -->\n")
    pieces = begin.split(text)  # text, name, text, name, text, ...
    new = pieces[0]
    for name, rest in zip(pieces[1::2], pieces[2::2]):
        new += f"<!-- {name}, written by benchmarks/readme.py -->\n{PARTS[name]()}\n{END}{rest.split(END, 1)[1]}"
    return new


def main():
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    new = generate(text)
    if "--check" in sys.argv[1:]:
        if new != text:
            sys.exit("readme: README.md is not what benchmarks/readme.py writes; run it")
        return
    path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: MIT
"""Writes the generated parts of README.md: the table of results from the JSON under benchmarks/results,
and the example from examples/readme_example/main.cpp.

Usage: python3 benchmarks/readme.py [--check]     --check fails when README.md is not up to date
"""
import json
import pathlib
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


def table():
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
    lines = ["| model | machine | speed | outcome |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def example():
    lines = (ROOT / "examples" / "readme_example" / "main.cpp").read_text(encoding="utf-8").splitlines()
    return "\n".join(["```cpp", *lines[2:], "```"])  # without the licence and the first comment


def replace(text, name, content):
    begin = f"<!-- {name}, written by benchmarks/readme.py -->"
    before, rest = text.split(begin)
    after = rest.split(END, 1)[1]
    return f"{before}{begin}\n{content}\n{END}{after}"


def main():
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    new = replace(replace(text, "example", example()), "results", table())
    if "--check" in sys.argv[1:]:
        if new != text:
            sys.exit("readme: README.md is not what benchmarks/readme.py writes; run it")
        return
    path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: MIT
"""What the benchmarks of a GPT training step share: the cases, the FLOP count, and the form of a result.

A case is a model and a batch. FLOPs per token by the formula of PaLM (Chowdhery et al. 2022,
https://arxiv.org/abs/2204.02311, appendix B): 6 N + 12 L C T, with N parameters without those of the
positions, L layers, C features and T positions; the causal mask does not halve the second term.
"""
import dataclasses
import json
import math
import shlex
import statistics
import sys

from gpt_training import machine, today

DATASHEET_TFLOPS = 989.5  # H200 SXM, bf16 without sparsity
MEASURED_TFLOPS = 796.0  # the fastest bf16 product of large matrices seen on an H200, random data
MIN_STEPS = 50  # of a result


@dataclasses.dataclass(frozen=True)
class Case:
    """Sizes of a GPT-2 and of its batch."""
    layers: int
    heads: int
    width: int
    context: int
    batch: int
    vocab: int = 50257
    dropout: float = 0.0
    bias: bool = True

    @property
    def padded_vocab(self):
        return math.ceil(self.vocab / 64) * 64

    @property
    def tokens(self):
        return self.batch * self.context

    @property
    def parameters(self):
        """Without the positions and the padding of the vocabulary."""
        matrices = 12 * self.width ** 2
        vectors = (4 + 9 if self.bias else 2) * self.width  # of two norms, and of four linear layers
        last_norm = (2 if self.bias else 1) * self.width
        return self.vocab * self.width + self.layers * (matrices + vectors) + last_norm

    @property
    def flops_per_token(self):
        return 6 * self.parameters + 12 * self.layers * self.width * self.context


def gpt2(layers, heads, width, batch):
    return Case(layers, heads, width, 1024, batch)


CASES = {
    "toy": Case(6, 6, 384, 256, 64, vocab=96, dropout=0.2, bias=False),
    "gpt2_b4": gpt2(12, 12, 768, 4),
    "gpt2_b16": gpt2(12, 12, 768, 16),
    "gpt2_b64": gpt2(12, 12, 768, 64),
    "medium_b16": gpt2(24, 16, 1024, 16),
    "large_b16": gpt2(36, 20, 1280, 16),
    "xl_b16": gpt2(48, 25, 1600, 16),
}
TITLES = {"toy": "toy, 6 x 384, 64 x 256 tokens", "gpt2_b4": "GPT-2 124M, 4 x 1024",
          "gpt2_b16": "GPT-2 124M, 16 x 1024", "gpt2_b64": "GPT-2 124M, 64 x 1024",
          "medium_b16": "GPT-2 350M, 16 x 1024", "large_b16": "GPT-2 774M, 16 x 1024",
          "xl_b16": "GPT-2 1558M, 16 x 1024"}


def result(case, implementation, variant, ms, steps_per_interval, memory_bytes, command):
    """A row of the JSON. ms: of one step, once for each interval between two points of time. bf16: what is computed with;
    master weights, gradients and moments are f32."""
    shape = CASES[case]
    ms = sorted(ms)
    median = statistics.median(ms)
    tflops = shape.flops_per_token * shape.tokens / median * 1e-9
    return {
        "case": case, "implementation": implementation, "variant": variant, "precision": "bf16",
        "ms": {"median": round(median, 4), "p10": round(ms[len(ms) // 10], 4),
               "p90": round(ms[len(ms) * 9 // 10], 4), "intervals": len(ms),
               "steps": len(ms) * steps_per_interval},
        "tokens_per_second": round(shape.tokens / median * 1e3),
        "tflops": round(tflops, 1),
        "mfu_measured_peak": round(tflops / MEASURED_TFLOPS, 4),
        "mfu_datasheet": round(tflops / DATASHEET_TFLOPS, 4),
        "peak_memory_bytes": memory_bytes,
        "command": command,
    }


def missing(case, implementation, variant, reason):
    """A row for what could not be measured."""
    return {"case": case, "implementation": implementation, "variant": variant, "ms": None, "missing": reason}


def write(path, rows, commit, earlier=""):
    """Writes the JSON file of these rows. earlier: the commands of a run that this one goes on with."""
    words = ["RESULT.json" if word == str(path) else word for word in sys.argv]
    if "--commit" in words:  # stands beside it
        del words[words.index("--commit"):words.index("--commit") + 2]
    command = "python3 " + shlex.join(words)
    commands = earlier if command in earlier.split("; ") else "; ".join(filter(None, (earlier, command)))
    document = {"date": today(), "commit": commit, "machine": machine(), "command": commands, "rows": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def part_of_run(path, commit):
    """The measured rows and the commands of a run of the same commit on the same machine that was cut off."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [], ""
    except ValueError as error:
        sys.exit(f"{path}: {error}, expected the result of a run that was cut off; write to another file")
    for name, wanted in (("commit", commit), ("machine", machine())):
        if document.get(name) != wanted:
            sys.exit(f"{path}: {name} is {document.get(name)}, expected {wanted} to go on with it; write to another file")
    return [row for row in document["rows"] if row["ms"] is not None], document["command"]


def line_of(row):
    name = f"{row['case']:11} {row['implementation']:8} {row['variant']:14}"
    if row["ms"] is None:
        return f"{name} -: {row['missing']}"
    ms = row["ms"]
    return (f"{name} {ms['median']:8.2f} ms ({ms['p10']:.2f} to {ms['p90']:.2f})  "
            f"{row['tokens_per_second'] / 1e3:8,.0f} k tok/s  MFU {row['mfu_measured_peak']:.1%} of measured, "
            f"{row['mfu_datasheet']:.1%} of datasheet  {row['peak_memory_bytes'] / 2**30:.2f} GiB")

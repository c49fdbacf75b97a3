# SPDX-License-Identifier: MIT
"""Compares what TensorBoard reads from a run directory with its log.jsonl. Needs tensorboard.

Usage: lamina-gpt train ... --metrics=tensorboard --out RUN; python3 tests/formats/tensorboard_reads.py RUN
"""
import json
import math
import pathlib
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

GROUPS = {"step": "train", "eval": "eval"}


def numbers(record, prefix):
    """Name and value of each number; of nested objects "outer/inner"."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) or value is None:  # null: not finite
            yield prefix + name, value


def is_equal(logged, read):
    return not math.isfinite(read) if logged is None else math.isclose(logged, read, rel_tol=1e-6)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    run = pathlib.Path(sys.argv[1])
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    found = {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
    compared = 0
    for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        group = GROUPS.get(record.pop("event"))
        if group is None:
            continue
        step = record.pop("step")
        for tag, value in numbers(record, f"{group}/"):
            read = found.get(tag, {}).pop(step, None)
            if read is None or not is_equal(value, read):
                sys.exit(f"tensorboard: {tag} of step {step} is {read}, expected {value}")
            compared += 1
    left = sum(len(steps) for steps in found.values())
    if left or not compared:
        sys.exit(f"tensorboard: {compared} values compared, {left} are not in the log")
    print(f"tensorboard reads all {compared} values of {len(found)} scalars")


if __name__ == "__main__":
    main()

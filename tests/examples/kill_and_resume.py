# SPDX-License-Identifier: MIT
"""Kills lamina-gpt train (SIGKILL) at random moments, each time goes on with the same command, and
compares the run with one that was left alone: weights, moments, log. There is a checkpoint at each
step. Usage: kill_and_resume.py LAMINA_GPT [KILLS [SEED]]"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time

PROGRAM = sys.argv[1]
KILLS = int(sys.argv[2]) if len(sys.argv) > 2 else 10
RANDOM = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
STEPS_A_KILL = 20
STEPS = 3 * STEPS_A_KILL * KILLS  # more than what the kills leave time for
TAIL = 4096  # bytes of the log with at least one step
TIMES = ("ms", "tok_s", "elapsed_s", "memory", "memory_plan", "machine", "trained_s", "logs")


def command(out, steps=STEPS):
    text = os.path.join(os.path.dirname(out), "text.txt")
    return [PROGRAM, "train", "--out", out, "--text", text, "--steps", str(steps),
            *("--preset toy-cpu --device cpu --threads 1 --layers 1 --width 32 --heads 2 --context 16 --batch 2 "
              "--accumulate 2 --dropout 0.1 --log-every 1 --eval-every 50 --eval-batches 1 --checkpoint-every 1 "
              "--metrics csv --samples 1 --sample-chars 20").split()]


def timeless(record):
    return {key: value for key, value in record.items() if key not in TIMES}


def log_of(out):
    with open(os.path.join(out, "log.jsonl")) as file:
        return [timeless(json.loads(line)) for line in file]


def logged_steps(out):
    """The last step that is in the log; the last line may be cut."""
    try:
        with open(os.path.join(out, "log.jsonl"), "rb") as file:
            file.seek(max(0, os.stat(file.fileno()).st_size - TAIL))
            steps = re.findall(rb'"event":"step".*"step":(\d+),', file.read())
    except FileNotFoundError:
        return 0
    return int(steps[-1]) if steps else 0


def checkpoint_of(out):
    directory = os.path.join(out, "checkpoints", f"step_{STEPS:08}")
    parts = {}
    for name in ("model.safetensors", "optimizer.safetensors"):
        with open(os.path.join(directory, name), "rb") as file:
            parts[name] = file.read()
    with open(os.path.join(directory, "state.json")) as file:
        parts["state.json"] = timeless(json.load(file))
    return parts


def seconds_of(training):
    start = time.monotonic()
    subprocess.run(training, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def wait_for_moment(process, out, start_seconds, step_seconds):
    """In the start of the process, or in one of its steps. Steps are counted: the machine's speed changes."""
    steps = 0 if RANDOM.random() < 0.2 else RANDOM.randrange(1, 2 * STEPS_A_KILL)
    first = logged_steps(out)
    while steps > 0 and logged_steps(out) < first + steps and process.poll() is None:
        time.sleep(0.001)
    time.sleep(RANDOM.uniform(0.0, step_seconds if steps > 0 else start_seconds))


def main():
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "text.txt"), "w") as file:
            file.write(" ".join(str(RANDOM.randrange(1000)) for _ in range(2000)))
        whole, out, short = (os.path.join(directory, name) for name in ("whole", "run", "short"))
        start_seconds = seconds_of(command(short, 1))
        seconds = seconds_of(command(whole))
        most_lost = damaged = kills = 0
        while kills < KILLS:
            before = logged_steps(out)
            with open(os.path.join(directory, "said.txt"), "w+") as said:
                process = subprocess.Popen(command(out), stdout=said, stderr=subprocess.STDOUT)
                wait_for_moment(process, out, start_seconds, seconds / STEPS)
                status = process.poll()
                process.kill()
                process.wait()
                said.seek(0)
                text = said.read()
            if status is not None:
                sys.exit(f"the run ended by itself with status {status} after {kills} kills: {text}")
            kills += 1
            damaged += text.count("damaged ")
            resumed = re.search(r"^resume  step (\d+)", text, re.M)
            if resumed:
                most_lost = max(most_lost, before - int(resumed.group(1)))
            elif logged_steps(out) < before:
                most_lost = max(most_lost, before)  # it has started again
        rest = subprocess.run(command(out), capture_output=True, text=True, check=False)
        assert rest.returncode == 0, rest.stderr
        wanted = checkpoint_of(whole)
        different = [name for name, part in checkpoint_of(out).items() if part != wanted[name]]
        assert not different, f"{different} of the last checkpoint differ"
        assert log_of(out) == log_of(whole), "the logs differ"
        names = os.listdir(os.path.join(out, "checkpoints"))
        assert not [name for name in names if name.startswith(".")], names
        # The checkpoint of a step lasts before the next step begins.
        assert most_lost <= 1, f"{most_lost} steps were lost"
        assert damaged == 0, f"{damaged} checkpoints were damaged"
        print(f"{kills} kills in {STEPS} steps ({seconds:.1f} s without them): at most {most_lost} steps lost, "
              "weights, moments and log equal")


main()

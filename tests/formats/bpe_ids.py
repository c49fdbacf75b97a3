# SPDX-License-Identifier: MIT
"""Token ids of a hard corpus: Lamina's byte-pair tokenizers beside tokenizers and tiktoken.

Usage: python3 tests/formats/bpe_ids.py PATH/TO/token_ids PATH/TO/lamina-gpt [--tokenizer DIR] [--texts 3000] [--seed 1]

Needs tokenizers and tiktoken (pip install). A tokenizer is trained on a part of the corpus by tokenizers and by
lamina-gpt: both must learn the same merges. Then every text must get the same ids from all three programs, whether
the tokenizer comes from tokenizer.json or from merges.txt and vocab.json. The corpus: every code point of Unicode
between letters, digits, blanks and signs; random texts of all categories; contractions, runs of blanks, emoji, a
megabyte of one letter; and bytes that are not UTF-8, which must survive (token_ids turns ids back into bytes).
--tokenizer DIR: also those files, as those of GPT-2 (merges.txt and vocab.json), which are not in this repository.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import unicodedata

import tiktoken
import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END = "<|endoftext|>"
PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
PARTS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'Ll", "’s", "''", "don't", "I'll", "we'd've", "'", " ", "  ",
         "    ", "\t", "\n", "\n\n", "\r\n", " \n ", "\u00a0", "\u3000", "\u2028", "\u200b", "\u200d", "\ufeff", "\x00",
         "\x1c", "\x85", "a", "word", "Hello", "WORLD", "naïve", "Ⅷ", "½", "٣", "12345", "3.14", "1e-5", "...", "?!", "—",
         "_", "{}", "==", "👩‍👩‍👧", "🏳️‍🌈", "e\u0301", "世界", "日本語", "العربية", "हिन्दी", "ไทย", "한국어", "𝔘𝔫𝔦", "𐐀", END,
         "<|endof", "text|>", "https://a.b/c?d=e", "int main() {\n\treturn 0;\n}"]


def points():
    return [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]


def large_texts():
    texts = ["", " ", "\n", "'", "a" * 1_000_000, " " * 100_000, "ab" * 200_000, "世" * 50_000, "1 " * 50_000]
    all_points = points()
    for first in range(0, len(all_points), 4096):
        texts.append("".join(f"a{c}b 1{c}2 !{c}? {c}{c} \n{c}" for c in map(chr, all_points[first:first + 4096])))
    return texts


def random_texts(count, rng):
    texts = []
    assigned = [chr(p) for p in points() if unicodedata.category(chr(p)) not in ("Cn", "Co")]
    for _ in range(count):
        parts = [rng.choice(PARTS) if rng.random() < 0.7 else rng.choice(assigned) for _ in range(rng.randrange(60))]
        texts.append("".join(parts))
    return texts


def damaged(texts, rng):
    for text in texts[:300]:
        data = bytearray(text[:2000].encode())
        for _ in range(1 + len(data) // 20):
            data.insert(rng.randrange(len(data) + 1), rng.randrange(256))
        yield bytes(data)


def words_of(rng, count):
    """A text with words that come often and seldom, to train on."""
    stems = ["".join(rng.choices("etaoinshrdlucmfwypvbgkqjxz", k=rng.randrange(1, 9))) for _ in range(3000)]
    weights = [1 / (rank + 1) for rank in range(len(stems))]
    words = rng.choices(stems, weights, k=count)
    return " ".join(word.capitalize() + ".\n" if rng.random() < 0.05 else word for word in words) + "".join(
        rng.choices(PARTS, k=count // 10))


def train(text, size, folder):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=size - 1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_special_tokens([END])
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def byte_of_symbol():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def tiktoken_of(tokenizer):
    table = byte_of_symbol()
    ids = tokenizer.get_vocab()
    ranks = {bytes(table[c] for c in token): id for token, id in ids.items() if token != END}
    return tiktoken.Encoding("compared", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={END: ids[END]})


def ids_of(program, tokenizer, paths):
    lines = subprocess.run([program, tokenizer], input="".join(f"{path}\n" for path in paths), capture_output=True,
                           text=True, check=True).stdout.splitlines()
    if len(lines) != len(paths):
        sys.exit(f"bpe_ids: {len(lines)} results for {len(paths)} texts")
    return lines


def compare(program, path, tokenizer, texts, wild, folder):
    """Returns the number of texts whose ids differ."""
    paths = [folder / f"text{i}" for i in range(len(texts) + len(wild))]
    for name, data in zip(paths, [text.encode() for text in texts] + wild):
        name.write_bytes(data)
    start = time.monotonic()
    ours = ids_of(program, path, paths)
    seconds = time.monotonic() - start
    others = {"tokenizers": lambda text: tokenizer.encode(text, add_special_tokens=False).ids}
    reference = tiktoken_of(tokenizer)
    others["tiktoken"] = lambda text: reference.encode(text, allowed_special="all")
    differences = sum(line.startswith("error") for line in ours)
    for text, line in zip(texts, ours):
        for name, encode in others.items():
            if name == "tiktoken" and len(text) > 200_000 and len(set(text)) < 3:
                continue  # its time is the square of a piece's length
            theirs = " ".join(map(str, encode(text)))
            if line.strip() != theirs:
                differences += 1
                if differences < 5:
                    print(f"{name}: {text[:80]!r}\n  lamina {line[:200]}\n  theirs {theirs[:200]}")
    size = sum(path.stat().st_size for path in paths)
    print(f"{path}: {len(texts)} texts, {len(wild)} that are not UTF-8, {size / 1e6:.1f} MB, {differences} differences; "
          f"{size / 1e6 / seconds:.1f} MB/s with reading and printing")
    return differences


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("lamina_gpt")
    parser.add_argument("--tokenizer")
    parser.add_argument("--texts", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    large, texts = large_texts(), random_texts(args.texts, rng)
    wild = [*damaged(texts, rng), bytes(range(256)), b"\xff" * 1000]
    failures = 0
    print(f"tokenizers {tokenizers.__version__}, tiktoken {tiktoken.__version__}")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        to_learn = words_of(rng, 60_000) + "".join(texts[-500:]).replace(END, "")
        to_learn = to_learn.encode(errors="ignore").decode()
        (folder / "learn.txt").write_bytes(to_learn.encode())
        tokenizer = train(to_learn, 4000, folder)
        subprocess.run([args.lamina_gpt, "tokenizer", "--text", folder / "learn.txt", "--vocab", "4000", "--out",
                        folder / "own.json"], check=True)
        own = json.loads((folder / "own.json").read_text())["model"]
        pairs = [tuple(pair) for pair in json.loads((folder / "tokenizer.json").read_text())["model"]["merges"]]
        own_pairs = [tuple(pair.split(" ")) for pair in own["merges"]]
        same = sum(a == b for a, b in zip(pairs, own_pairs))
        print(f"trained on {len(to_learn)} characters: {len(pairs)} merges of tokenizers, {len(own_pairs)} of lamina-gpt, "
              f"{same} the same")
        failures += pairs != own_pairs
        failures += compare(args.program, folder / "tokenizer.json", tokenizer, large + texts, wild, folder)
        failures += compare(args.program, folder / "own.json", Tokenizer.from_file(str(folder / "own.json")), texts, wild,
                            folder)
        legacy = folder / "legacy"
        legacy.mkdir()
        tokenizer.model.save(str(legacy))
        with (legacy / "vocab.json").open("w") as file:
            json.dump(tokenizer.get_vocab(), file)
        failures += compare(args.program, legacy, tokenizer, texts, wild, folder)
        (legacy / "vocab.json").unlink()  # ids by the order of the merges alone
        failures += compare(args.program, legacy / "merges.txt", tokenizer, texts, wild, folder)
        if args.tokenizer:
            given = pathlib.Path(args.tokenizer)
            theirs = Tokenizer(models.BPE.from_file(str(given / "vocab.json"), str(given / "merges.txt")))
            theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            theirs.add_special_tokens([END])
            failures += compare(args.program, given, theirs, large + texts, wild, folder)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

// SPDX-License-Identifier: MIT
// The command line of lamina-gpt: one table of options (options_table.cpp) gives the parser, the
// ranges, the help, the keys of --config files and of the config.json in a run directory. Values
// come from the preset, then from --config, then from flags. Mistakes throw UsageError, exit
// status 2.
#pragma once

#include "core/device.h"
#include "core/error.h"

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lamina::gpt {

/// A mistake on the command line or in a --config file.
struct UsageError : Error {
  using Error::Error;
};

/// What runs: a bit each, so that an option can belong to several.
enum class Command : unsigned {
  train = 1,
  sample = 2,
  eval = 4,
  doctor = 8,
  profile = 16,
  report = 32,
  tokenizer = 64,
  import_gpt2 = 128,  // called import, export
  export_gpt2 = 256,
  prepare = 512,
  inspect = 1024
};

struct Options {
  std::string preset, config;
  std::string device = "auto";
  std::int64_t threads = 0;  // 0: as OpenMP decides
  std::int64_t seed = 1337;

  std::vector<std::string> text;  // files; empty: the built-in corpus
  std::string level = "character", tokenizer, corpus;
  std::int64_t vocab = 8192;  // of a new tokenizer
  std::string data;           // a directory of shards
  std::string format = "llm.c";
  std::int64_t shard_tokens = 100'000'000;
  double validation = 0.1;  // fraction of the text
  bool random_tokens = false;

  std::string from;  // what to start with: a run or a file; empty: random weights
  std::int64_t layers = 4, heads = 4, width = 128, context = 128;
  double dropout = 0.0;
  bool bias = true;
  std::string recompute = "none";
  std::int64_t logit_rows = 0;
  std::string residual = "same";

  std::int64_t steps = 0, batch = 0, accumulate = 1, warmup = 0;
  double lr = 0.0, min_lr = 0.0, weight_decay = 0.1, beta1 = 0.9, beta2 = 0.99, clip = 1.0;
  std::string schedule = "cosine", dtype = "auto";
  double time_limit = 0.0;  // seconds; 0: none

  std::string out, resume = "auto";  // auto, never or a step
  std::int64_t checkpoint_every = 500, keep = 2, keep_every = 0;
  std::int64_t eval_every = 250, eval_batches = 20;
  std::int64_t log_every = 0;  // 0: 10 on the CPU, 50 on CUDA
  std::string metrics = "none";
  std::int64_t profile = 0, profile_depth = 0;  // steps between samples, 0: none; levels, 0: all
  bool profile_fold = true, eager = false;
  std::string gemm_plans = "auto";
  bool gemm_report = false;
  std::string trace = "trace.json", memory = "memory.pickle";

  std::int64_t samples = 3, sample_chars = 0, top_k = 0;
  double temperature = 1.0, top_p = 1.0, repetition_penalty = 1.0;
  std::string prompt, prompt_file, log_probs, run;
  std::vector<std::string> stop;

  std::vector<std::string> files;  // of inspect
  bool check = false, json = false;

  bool help = false;
};

/// Reads the arguments after the command and applies preset, --config and flags, in that order.
/// When `out` names a run that train is to go on with, its config.json comes before --config.
/// `device`, `preset`, `dtype`, `corpus` and `log_every` are resolved from "auto" afterwards;
/// `device` of doctor is not, where "auto" means every device.
Options parse_options(Command command, std::span<const std::string> arguments);

/// "train", "sample", ...
std::string_view name_of(Command command);

/// Throws UsageError with a suggestion for any other name.
Command parse_command(std::string_view name);

/// The text of --help: every option with its default and unit.
std::string help_text(Command command);

/// The options of a command by name, as a --config file would give them.
nlohmann::json to_json(const Options& options, Command command);

}  // namespace lamina::gpt

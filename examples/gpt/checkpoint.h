// SPDX-License-Identifier: MIT
// The model of a checkpoint: a safetensors file of the parameters whose metadata holds all that
// sampling and evaluation need to know: the model's configuration, the vocabulary and the data.
#pragma once

#include "examples/gpt/model.h"
#include "examples/gpt/text.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace lamina::gpt {

struct CheckpointInfo {
  GptConfig config;
  std::optional<data::Vocabulary> vocabulary;  // nothing after training on random tokens
  std::string preset;
  std::string corpus;  // built-in corpus that it was trained on; empty for other data
  std::int64_t step = 0;
};

/// The metadata of the file.
nn::Metadata metadata_of(const CheckpointInfo& info);

struct Checkpoint {
  CheckpointInfo info;
  std::unique_ptr<Gpt> model;  // f32, on the CPU
  std::filesystem::path path;  // of the file
};

/// Reads the best model of a run directory (the latest when none was evaluated), that of a
/// checkpoint's directory, or a file. Throws Error with the path when there is none, when it is not
/// of lamina-gpt, or when it is damaged: then with another one that is not.
Checkpoint load_checkpoint(const std::filesystem::path& run);

/// Reads the newest model of a run directory that is intact; nothing when there is none.
std::optional<Checkpoint> load_newest(const std::filesystem::path& run);

/// FNV-1a over names and bytes of all parameters: equal for bit-identical models.
std::uint64_t weights_hash(Gpt& model);

/// "0x0123456789abcdef"
std::string hash_text(std::uint64_t hash);

}  // namespace lamina::gpt

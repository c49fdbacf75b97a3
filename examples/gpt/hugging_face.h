// SPDX-License-Identifier: MIT
// GPT-2 as transformers stores it: a directory with config.json, model.safetensors and the files of
// a tokenizer. Names and layouts:
// https://github.com/huggingface/transformers/blob/main/src/transformers/models/gpt2/modeling_gpt2.py.
#pragma once

#include "examples/gpt/checkpoint.h"

#include <filesystem>
#include <string_view>

namespace lamina::gpt {

/// The model that the text of a config.json describes; what it leaves out has the value that
/// GPT2Config gives it. Throws Error that names the field for another architecture or a variant
/// that this model is not.
GptConfig config_from_hugging_face(std::string_view text);

/// Reads a directory: names with and without the prefix "transformer.", one file or several with an
/// index, weights of any float dtype, which become f32. Buffers that hold attention masks are
/// ignored. Without tokenizer files the checkpoint has no vocabulary. Throws Error that lists the
/// tensors that are missing, unexpected or of another shape.
Checkpoint import_gpt2(const std::filesystem::path& directory);

/// Writes a directory that AutoModelForCausalLM and, if there is a vocabulary, AutoTokenizer load.
/// A model without biases gets zeros. Weights are f32. `directory` must be new or empty.
void export_gpt2(Gpt& model, const CheckpointInfo& info, const std::filesystem::path& directory);

}  // namespace lamina::gpt

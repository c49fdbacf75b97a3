// SPDX-License-Identifier: MIT
// One optimizer step of a GPT, with all that it needs: data, model and optimizer as the options
// say. The train and profile commands run it.
#pragma once

#include "core/upload.h"
#include "examples/gpt/checkpoint.h"
#include "examples/gpt/data.h"
#include "examples/gpt/gemm_plan_file.h"
#include "examples/gpt/model.h"
#include "examples/gpt/options.h"

#include <cstdint>
#include <memory>
#include <optional>

namespace lamina::gpt {

/// Where tokens come from.
struct Data {
  std::unique_ptr<TokenSource> source;
  std::optional<data::Vocabulary> vocabulary;  // nothing for random tokens, and shards without one
  std::uint32_t checksum = 0;                  // of the text of --text, of --data
};

/// Throws UsageError when its tokens are not those of the model.
data::TokenDirectory open_data_directory(const std::string& path, const CheckpointInfo& info);

/// The data of --text, --data, --corpus or --random-tokens, in tokens of the vocabulary of `start`
/// if there is one. Throws Error.
Data open_data(const Options& options, const CheckpointInfo* start = nullptr);

/// The model that the options describe, for a vocabulary.
GptConfig model_config(const Options& options, std::int64_t vocabulary_size);

/// FLOPs that training takes for a token: 6 N + 12 layers * width * context, N without positions
/// and padding. Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, appendix B.
std::int64_t flops_per_token(Gpt& model);

/// The dtype of weights and activations; tf32 is f32 with AllowTf32.
DType compute_dtype(const Options& options);

/// With --dtype f16 the loss is scaled.
nn::AdamWOptions optimizer_options(const Options& options);

class TrainingStep {
 public:
  /// Makes model and optimizer from the seed; with `start`, whose sizes `options` have, the model
  /// has its parameters. AllowTf32 holds for this thread as long as the object lives, as --dtype
  /// says.
  explicit TrainingStep(const Options& options, const Checkpoint* start = nullptr);

  /// Queues the copy of step `index`'s tokens to the device.
  void upload(std::int64_t index);

  /// Queues forward, backward and update from the tokens that are there: the same work every time,
  /// so that it can be captured.
  void run();

  Device device() const { return device_; }

  const Data& data() const { return data_; }

  const TokenLoader& loader() const { return loader_; }

  /// Of the step that was uploaded last: [accumulate, 2, batch, context], i32.
  const Tensor& tokens() const { return tokens_; }

  GemmPlanFile& plans() { return plans_; }

  Gpt& model() { return *model_; }

  nn::AdamW& optimizer() { return *optimizer_; }

  /// The mean of the step's micro-steps; on the device.
  const Tensor& loss() const { return loss_; }

 private:
  const Options& options_;
  Device device_;
  Data data_;
  TokenLoader loader_;
  Tensor tokens_;
  Upload upload_;
  GemmPlanFile plans_;
  AllowTf32 tf32_;
  std::unique_ptr<Gpt> model_;
  std::optional<nn::AdamW> optimizer_;
  Tensor loss_;
};

}  // namespace lamina::gpt

// SPDX-License-Identifier: MIT
#include "examples/gpt/training_step.h"

#include "core/kernels/gemm_plans.h"
#include "core/profile_scope.h"
#include "core/text.h"
#include "examples/gpt/crc32c.h"
#include "examples/gpt/tokenizer_file.h"

#include <cmath>
#include <filesystem>
#include <span>
#include <utility>
#include <vector>

namespace lamina::gpt {

namespace {

constexpr std::int64_t kGpt2Vocabulary = 50257;

/// No more than kMost logits at a time, in equal parts, so that none is a flat product.
std::int64_t logit_rows(const Options& options, std::int64_t padded_vocab) {
  if (options.logit_rows > 0) return options.logit_rows;
  constexpr double kMost = 2147483648;  // 4.3 GB of 16 bits
  const std::int64_t positions = options.batch * options.context;
  const double logits = static_cast<double>(positions) * static_cast<double>(padded_vocab);
  const auto parts = static_cast<std::int64_t>(std::ceil(logits / kMost));
  return parts <= 1 ? 0 : (positions + parts - 1) / parts;
}

}  // namespace

GptConfig model_config(const Options& options, std::int64_t vocabulary_size) {
  const auto recomputes = [&options](std::string_view what) {
    return options.recompute.find(what) != std::string::npos;
  };
  GptConfig config{
      .layers = static_cast<int>(options.layers),
      .heads = static_cast<int>(options.heads),
      .width = options.width,
      .context = options.context,
      .vocab = vocabulary_size,
      .dropout = options.dropout,
      .bias = options.bias,
      .wide_residual = options.residual == "f32",
      .recompute = {
          .norm = recomputes("norm"), .gelu = recomputes("gelu"), .block = recomputes("block")}};
  config.logit_rows = logit_rows(options, config.padded_vocab());
  return config;
}

std::int64_t flops_per_token(Gpt& model) {
  const GptConfig& config = model.config;
  const std::int64_t unused =
      (config.context + config.padded_vocab() - config.vocab) * config.width;
  return 6 * (model.parameter_count() - unused) +
         12 * config.layers * config.width * config.context;
}

DType compute_dtype(const Options& options) {
  if (options.dtype == "f16") return DType::f16;
  return options.dtype == "bf16" ? DType::bf16 : DType::f32;
}

nn::AdamWOptions optimizer_options(const Options& options) {
  const auto peak = static_cast<float>(options.lr), floor = static_cast<float>(options.min_lr);
  const auto schedule = options.schedule == "cosine"
                            ? nn::schedule::cosine(peak, floor, options.warmup, options.steps)
                        : options.schedule == "linear"
                            ? nn::schedule::linear(peak, floor, options.warmup, options.steps)
                            : nn::schedule::constant(peak, options.warmup);
  return {.schedule = schedule,
          .beta1 = static_cast<float>(options.beta1),
          .beta2 = static_cast<float>(options.beta2),
          .weight_decay = static_cast<float>(options.weight_decay),
          .max_norm = static_cast<float>(options.clip),
          .loss_scale = options.dtype == "f16" ? nn::dynamic_loss_scale() : kernels::LossScale{}};
}

data::TokenDirectory open_data_directory(const std::string& path, const CheckpointInfo& info) {
  data::TokenDirectory directory = data::open_token_directory(path);
  if (directory.vocabulary && info.vocabulary && *directory.vocabulary != *info.vocabulary) {
    throw UsageError(cat("--data ", path, " has another vocabulary than the model, expected the ",
                         "same tokens"));
  }
  if (directory.vocabulary_size != info.config.vocab) {
    throw UsageError(cat("--data ", path, " has a vocabulary of ", directory.vocabulary_size,
                         ", expected ", info.config.vocab, " (that of the model)"));
  }
  if (!directory.vocabulary) directory.vocabulary = info.vocabulary;
  return directory;
}

Data open_data(const Options& options, const CheckpointInfo* start) {
  const auto seed = static_cast<std::uint64_t>(options.seed);
  if (!options.data.empty()) {
    data::TokenDirectory directory = start != nullptr ? open_data_directory(options.data, *start)
                                                      : data::open_token_directory(options.data);
    const std::uint32_t checksum = directory.checksum;
    std::optional<data::Vocabulary> vocabulary = directory.vocabulary;
    return {shard_source(std::move(directory), options.context, seed), std::move(vocabulary),
            checksum};
  }
  const data::Level level = options.level == "byte" ? data::Level::byte : data::Level::character;
  if (options.text.empty()) {
    if (options.random_tokens) {
      const std::int64_t size = start != nullptr ? start->config.vocab
                                : options.preset.starts_with("gpt2")
                                    ? kGpt2Vocabulary
                                    : data::Vocabulary::builtin().size();
      return {random_source(size, seed), std::nullopt};
    }
    if (start != nullptr && start->vocabulary != data::Vocabulary::builtin()) {
      throw UsageError(cat("--from ", options.from, " has another vocabulary than the built-in ",
                           "corpus, expected --text FILE or --data DIR"));
    }
    return {corpus_source(options.corpus), data::Vocabulary::builtin()};
  }
  const std::vector<std::filesystem::path> paths(options.text.begin(), options.text.end());
  const std::string text = data::read_text_files(paths);
  if (start != nullptr && !start->vocabulary) {
    throw UsageError(cat("--from ", options.from,
                         " has no vocabulary that says which tokens --text ",
                         "becomes, expected --data DIR with its tokens"));
  }
  data::Vocabulary vocabulary = start != nullptr ? *start->vocabulary
                                : options.tokenizer.empty()
                                    ? data::Vocabulary::from_text(text, level)
                                    : data::read_tokenizer(options.tokenizer);
  auto source = text_source(text, vocabulary, options.context, seed);
  return {std::move(source), std::move(vocabulary), crc32c(text)};
}

TrainingStep::TrainingStep(const Options& options, const Checkpoint* start)
    : options_(options),
      device_(Device::parse(options.device)),
      data_(open_data(options, start != nullptr ? &start->info : nullptr)),
      loader_(*data_.source, options.batch, options.context, device_),
      tokens_(empty({options.accumulate, 2, options.batch, options.context}, DType::i32, device_)),
      upload_(device_, tokens_.bytes()),
      plans_(options.gemm_plans, device_,
             options.out.empty() ? "" : std::filesystem::path(options.out) / "gemm_plans.txt"),
      tf32_(options.dtype == "tf32") {
  seed(static_cast<std::uint64_t>(options.seed));
  model_ = std::make_unique<Gpt>(model_config(options, data_.source->vocabulary_size()));
  if (start != nullptr) {
    const std::vector<NamedParameter> theirs = start->model->named_parameters();
    const std::vector<NamedParameter> ours = model_->named_parameters();
    for (std::size_t i = 0; i < ours.size(); ++i)
      ours[i].var->value().copy_from(theirs[i].var->value());
  }
  model_->to(device_, compute_dtype(options));
  optimizer_.emplace(model_->parameters(), optimizer_options(options));
}

void TrainingStep::upload(std::int64_t index) {
  const ProfileScope scope("data");
  upload_(tokens_, [&](std::span<std::byte> bytes) {
    const std::span all(reinterpret_cast<std::int32_t*>(bytes.data()),
                        bytes.size() / sizeof(std::int32_t));
    const auto batch = static_cast<std::size_t>(2 * loader_.tokens_per_batch());
    const auto first = static_cast<std::uint64_t>(index * options_.accumulate);
    for (std::size_t micro = 0; micro * batch < all.size(); ++micro)
      loader_.write(data::Split::train, first + micro, all.subspan(micro * batch, batch));
  });
}

void TrainingStep::run() {
  const TimeGemms timed(plans_.is_used());  // its first products; sampling has too many shapes
  Var losses;
  for (std::int64_t micro = 0; micro < options_.accumulate; ++micro) {
    const auto [inputs, targets] = batch_of(
        tokens_.slice(0, micro, micro + 1).reshape(tokens_.shape().sub(1, tokens_.rank())));
    const Var loss = model_->loss(inputs, targets);
    backward(loss, optimizer_->loss_scale());
    const NoGrad no_grad;
    const ProfileScope scope("loss");
    losses = micro == 0 ? Var(loss.value()) : add(losses, loss.value());
  }
  optimizer_->step(1.0F / static_cast<float>(options_.accumulate));
  optimizer_->zero_grad();
  if (options_.accumulate > 1) {
    const NoGrad no_grad;
    const ProfileScope scope("loss");
    losses = scale(losses, 1.0 / static_cast<double>(options_.accumulate));
  }
  loss_ = losses.value();
}

}  // namespace lamina::gpt

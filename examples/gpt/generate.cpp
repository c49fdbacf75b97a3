// SPDX-License-Identifier: MIT
#include "examples/gpt/generate.h"

#include "core/kernels/counter.h"
#include "core/kernels/draw_tokens.h"
#include "core/launch.h"
#include "core/step_graph.h"
#include "core/text.h"

#include <algorithm>
#include <cmath>

namespace lamina::gpt {

namespace {

/// An empty cache for `batch` sequences of up to `context` tokens.
GptCache make_cache(const Gpt& model, std::int64_t batch) {
  const GptConfig& config = model.config;
  const Tensor& table = model.tokens.weight.value();
  const Tensor position = zeros({1}, DType::i32, table.device());
  GptCache cache;
  for (int i = 0; i < config.layers; ++i) {
    cache.push_back(
        {empty({batch, config.context, 2 * config.width}, table.dtype(), table.device()),
         position});
  }
  return cache;
}

/// Logits of the token after the last of ids: [batch, padded_vocab()]. With a cache, ids are those
/// that follow what is in it, one for each sequence, or as many as wanted when it is empty; it
/// takes them in, and the caller moves its position on. Without gradients.
Tensor next_logits(Gpt& model, const Tensor& ids, const GptCache& cache = {}) {
  const Var x = model.features(ids, cache);
  const Var last = slice(x, 1, ids.dim(1) - 1, ids.dim(1));
  const ProfileScope scope("head");
  return linear(last, model.tokens.weight)
      .value()
      .reshape({ids.dim(0), model.config.padded_vocab()});
}

/// Tokens that are queued on a GPU before the host looks at them.
constexpr std::int64_t kAhead = 16;

/// Evaluation mode until destruction, then the mode that it was in.
class EvalMode {
 public:
  explicit EvalMode(Gpt& model) : model_(model), was_training_(model.is_training()) {
    model_.eval();
  }

  ~EvalMode() { model_.train(was_training_); }

  EvalMode(const EvalMode&) = delete;
  EvalMode& operator=(const EvalMode&) = delete;

 private:
  Gpt& model_;
  bool was_training_;
};

/// The samples as they are on the device, and the work that adds a token to each.
class Writer {
 public:
  Writer(Gpt& model, std::span<const std::int32_t> prompt, const SampleOptions& options)
      : model_(model),
        options_(options),
        device_(model.tokens.weight.device()),
        length_(static_cast<std::int64_t>(prompt.size())),
        tokens_(zeros({options.count, length_ + options.length}, DType::i32, device_)),
        log_probs_(zeros({options.count, length_ + options.length}, DType::f32, device_)),
        next_(zeros({options.count, 1}, DType::i32, device_)),
        graph_(device_) {
    const bool is_cached = options.use_cache && length_ <= model.config.context;
    if (is_cached) cache_ = make_cache(model, options.count);
    position_ = is_cached ? cache_.front().position : zeros({1}, DType::i32, device_);
    position_.copy_from(full({1}, static_cast<std::int32_t>(length_ - 1), DType::i32));
    const Tensor start =
        from_vector(std::vector<std::int32_t>(prompt.begin(), prompt.end()), {1, length_}, device_);
    for (std::int64_t i = 0; i < options.count; ++i)
      tokens_.slice(0, i, i + 1).slice(1, 0, length_).copy_from(start);
  }

  /// Queues the next token of each sample.
  void step() {
    const std::int64_t seen = std::min(length_, model_.config.context);
    if (cache_.empty() || length_ > model_.config.context) {
      draw(next_logits(model_, last_tokens(seen)));
    } else if (is_first_) {
      draw(next_logits(model_, last_tokens(seen), cache_));
    } else {
      graph_.run([this] { draw(next_logits(model_, next_, cache_)); });
    }
    is_first_ = false;
    ++length_;
  }

  /// Calls take(sample, token, log_prob) for the tokens from `first` on, all samples of one before
  /// those of the next. Waits for them.
  template <class Take>
  void collect(std::int64_t first, const Take& take) const {
    const std::vector<std::int32_t> tokens =
        tokens_.slice(1, first, length_).contiguous().to_vector<std::int32_t>();
    const std::vector<float> log_probs =
        log_probs_.slice(1, first, length_).contiguous().to_vector<float>();
    const auto steps = static_cast<std::size_t>(length_ - first);
    for (std::size_t step = 0; step < steps; ++step) {
      for (std::size_t sample = 0; sample * steps < tokens.size(); ++sample)
        take(sample, tokens[sample * steps + step], log_probs[sample * steps + step]);
    }
  }

  std::int64_t length() const { return length_; }

  Device device() const { return device_; }

 private:
  Tensor last_tokens(std::int64_t count) const {
    return tokens_.slice(1, length_ - count, length_).contiguous();
  }

  void draw(const Tensor& logits) const {
    kernels::DrawTokens args{.temperature = static_cast<float>(options_.temperature),
                             .top_k = options_.top_k,
                             .top_p = static_cast<float>(options_.top_p),
                             .repetition_penalty = static_cast<float>(options_.repetition_penalty),
                             .seed = options_.seed,
                             .position = flat(position_),
                             .logits = rows(logits.slice(1, 0, model_.config.vocab)),
                             .tokens = rows(tokens_),
                             .log_probs = rows(log_probs_),
                             .next = flat(next_)};
    const Stream stream = stream_of(logits);
    const Tensor workspace = empty({workspace_bytes_of(stream, args)}, DType::u8, device_);
    args.workspace = flat(workspace);
    launch(stream, args);
    launch(stream, kernels::Increment{.counter = flat(position_), .by = 1});
  }

  Gpt& model_;
  const SampleOptions& options_;
  Device device_;
  std::int64_t length_;        // of each sample, with what is queued
  Tensor tokens_, log_probs_;  // [count, prompt and new tokens]
  Tensor next_;                // [count, 1]: the newest token of each
  Tensor position_;            // [1]: of the newest token
  GptCache cache_;             // empty: not used
  StepGraph graph_;
  bool is_first_ = true;
};

}  // namespace

std::vector<Sample> generate(Gpt& model, std::span<const std::int32_t> prompt,
                             const SampleOptions& options) {
  if (prompt.empty()) throw Error("sample: the prompt is empty, expected at least one token");
  const auto count = static_cast<std::size_t>(options.count);
  std::vector<Sample> samples(count, {{prompt.begin(), prompt.end()}, {}});
  std::vector<bool> has_ended(count, options.length == 0);
  const EvalMode eval(model);
  const NoGrad no_grad;
  Writer writer(model, prompt, options);
  const auto start = writer.length();
  const auto take = [&](std::size_t i, std::int32_t token, float log_prob) {
    if (has_ended[i]) return;
    if (std::isnan(log_prob)) {
      throw Error(
          "sample: logits are nan or infinite, expected finite values (some weights of the "
          "model are not finite)");
    }
    samples[i].tokens.push_back(token);
    samples[i].log_probs.push_back(log_prob);
    has_ended[i] = static_cast<std::int64_t>(samples[i].log_probs.size()) == options.length;
    if (options.take && !options.take(i, token, log_prob)) has_ended[i] = true;
  };
  while (std::find(has_ended.begin(), has_ended.end(), false) != has_ended.end()) {
    if (options.is_stopped && options.is_stopped()) break;
    const std::int64_t first = writer.length();
    const std::int64_t left = start + options.length - first;
    for (std::int64_t i = 0; i < std::min(left, writer.device().is_cuda() ? kAhead : 1); ++i)
      writer.step();
    writer.collect(first, take);
  }
  return samples;
}

}  // namespace lamina::gpt

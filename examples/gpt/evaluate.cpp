// SPDX-License-Identifier: MIT
#include "examples/gpt/evaluate.h"

#include "core/kernels/cross_entropy.h"
#include "core/launch.h"
#include "core/text.h"
#include "examples/gpt/live_line.h"

#include <cmath>
#include <utility>

namespace lamina::gpt {

namespace {

/// -log P(target) of every position, row-major: what cross_entropy() averages.
std::vector<float> token_losses(const Tensor& logits, const Tensor& targets, std::int64_t classes) {
  const Tensor losses = empty({targets.elements()}, DType::f32, logits.device());
  const Tensor lse = empty_like(losses);
  const Tensor sums = empty({2}, DType::f32, logits.device());
  kernels::CrossEntropy args{.logits = rows(logits),
                             .targets = flat(targets),
                             .classes = classes,
                             .ignore_index = -1,
                             .losses = flat(losses),
                             .lse = flat(lse),
                             .loss = flat(sums.slice(0, 0, 1)),
                             .count = flat(sums.slice(0, 1, 2)),
                             .workspace = {}};
  const Stream stream = stream_of(logits);
  const Tensor workspace = empty({workspace_bytes_of(stream, args)}, DType::u8, logits.device());
  args.workspace = flat(workspace);
  launch(stream, args);
  return losses.to_vector<float>();
}

}  // namespace

std::string Evaluation::text() const {
  if (!has_floor) {
    return cat("val ", fixed(loss.mean, 4), " +- ", fixed(loss.standard_error, 4));
  }
  return cat("val ", fixed(loss.mean, 4), "  floor ", fixed(floor, 4), "  excess ",
             fixed(excess.mean, 4, true), " +- ", fixed(excess.standard_error, 4));
}

void Evaluation::check() const {
  if (!std::isfinite(loss.mean)) {
    throw Error(cat("eval: mean loss is ", fixed(loss.mean, 4), ", expected a finite loss (some ",
                    "weights or logits of the model are not finite)"));
  }
  if (!has_floor || windows < 2 || excess.mean >= -4.0 * excess.standard_error) return;
  throw InformationLeak(cat("information leak: ", text(), ", expected no loss below the floor by ",
                            "more than 4 standard errors (the model sees its targets)"));
}

Evaluator::Evaluator(const TokenLoader& loader, data::Split split, std::int64_t batches)
    : context_(loader.context()) {
  for (std::int64_t i = 0; i < batches; ++i) {
    const auto index = static_cast<std::uint64_t>(i);
    batches_.push_back(loader.batch(split, index));
    std::vector<FloorWindow> floors = loader.floors(split, index);
    if (!floors.empty()) floors_.push_back(std::move(floors));
  }
  double sum = 0.0;
  std::size_t targets = 0;
  for (const std::vector<FloorWindow>& batch : floors_) {
    for (const FloorWindow& window : batch) {
      for (const float surprisal : window.surprisal)
        sum += static_cast<double>(surprisal);
      targets += window.surprisal.size();
    }
  }
  if (targets > 0) floor_ = sum / static_cast<double>(targets);
}

Evaluation Evaluator::operator()(Gpt& model) const {
  const bool was_training = model.is_training();
  model.eval();
  const NoGrad no_grad;
  Evaluation result;
  result.has_floor = floor_.has_value();
  result.floor = floor_.value_or(0.0);
  const auto context = static_cast<std::size_t>(context_);
  std::vector<double> losses, excesses;
  for (std::size_t b = 0; b < batches_.size(); ++b) {
    const Var logits = model(batches_[b].inputs);
    const std::vector<float> by_token =
        token_losses(logits.value(), batches_[b].targets, model.config.vocab);
    for (std::size_t first = 0; first < by_token.size(); first += context) {
      double loss = 0.0, floor = 0.0;
      for (std::size_t t = 0; t < context; ++t)
        loss += static_cast<double>(by_token[first + t]);
      losses.push_back(loss / static_cast<double>(context));
      if (!result.has_floor) continue;
      const FloorWindow& oracle = floors_[b][first / context];
      for (std::size_t t = 0; t < context; ++t) {
        const auto surprisal = static_cast<double>(oracle.surprisal[t]);
        ClassLoss& of_class = result.classes[static_cast<std::size_t>(oracle.classes[t])];
        ++of_class.targets;
        of_class.loss += static_cast<double>(by_token[first + t]);
        of_class.floor += surprisal;
        floor += surprisal;
      }
      excesses.push_back((loss - floor) / static_cast<double>(context));
    }
  }
  result.windows = static_cast<std::int64_t>(losses.size());
  result.loss = data::estimate(losses);
  result.excess = data::estimate(excesses);
  model.train(was_training);
  return result;
}

}  // namespace lamina::gpt

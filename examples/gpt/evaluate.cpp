// SPDX-License-Identifier: MIT
#include "examples/gpt/evaluate.h"

#include "core/kernels/cross_entropy.h"
#include "core/launch.h"
#include "core/text.h"
#include "examples/gpt/live_line.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

namespace lamina::gpt {

Tensor token_losses(Gpt& model, const Batch& batch) {
  constexpr std::int64_t kRows = 8192;  // of logits
  const NoGrad no_grad;
  const Var features = model.features(batch.inputs);
  const std::int64_t windows = batch.inputs.dim(0), context = batch.inputs.dim(1);
  const std::int64_t step = std::max<std::int64_t>(1, kRows / context);
  const Tensor losses = empty({windows, context}, DType::f32, batch.inputs.device());
  for (std::int64_t first = 0; first < windows; first += step) {
    const std::int64_t end = std::min(first + step, windows);
    const Tensor logits = linear(slice(features, 0, first, end), model.tokens.weight).value();
    const Tensor lse = empty({(end - first) * context}, DType::f32, logits.device());
    launch(stream_of(logits),
           kernels::CrossEntropy{.logits = rows(logits),
                                 .targets = flat(batch.targets.slice(0, first, end)),
                                 .classes = model.config.vocab,
                                 .ignore_index = -1,
                                 .losses = flat(losses.slice(0, first, end)),
                                 .lse = flat(lse),
                                 .loss = {},
                                 .count = {}});
  }
  return losses;
}

std::string Evaluation::text() const {
  if (!has_floor) {
    return cat("val ", fixed(loss.mean, 4), " +- ", fixed(loss.standard_error, 4));
  }
  return cat("val ", fixed(loss.mean, 4), "  floor ", fixed(floor, 4), "  excess ",
             fixed(excess.mean, 4, true), " +- ", fixed(excess.standard_error, 4));
}

nlohmann::json Evaluation::skills() const {
  nlohmann::json all = nlohmann::json::object();
  for (std::size_t i = 0; i < classes.size(); ++i) {
    const ClassLoss& one = classes[i];
    if (one.targets == 0) continue;
    const auto count = static_cast<double>(one.targets);
    all[std::string(data::name_of(static_cast<data::CharClass>(i)))] = {
        {"targets", one.targets}, {"loss", one.loss / count}, {"floor", one.floor / count}};
  }
  return all;
}

void Evaluation::check() const {
  if (!std::isfinite(loss.mean)) {
    throw Error(cat("eval: mean loss is ", fixed(loss.mean, 4), ", expected a finite loss (some ",
                    "weights or logits of the model are not finite)"));
  }
  constexpr std::int64_t kLeast = 16;  // the standard error of fewer says little
  if (!has_floor || windows < kLeast || excess.mean >= -4.0 * excess.standard_error) return;
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
  Evaluation result;
  result.has_floor = floor_.has_value();
  result.floor = floor_.value_or(0.0);
  const auto context = static_cast<std::size_t>(context_);
  std::vector<double> losses, excesses;
  const auto count = [&](std::size_t b, const std::vector<float>& by_token) {
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
  };
  constexpr std::size_t kAtOnce = 16;  // batches: a GPU has work while the host queues more
  for (std::size_t begin = 0; begin < batches_.size(); begin += kAtOnce) {
    std::vector<Tensor> queued;
    for (std::size_t b = begin; b < std::min(begin + kAtOnce, batches_.size()); ++b)
      queued.push_back(token_losses(model, batches_[b]));
    for (std::size_t i = 0; i < queued.size(); ++i)
      count(begin + i, queued[i].to_vector<float>());
  }
  result.windows = static_cast<std::int64_t>(losses.size());
  result.loss = data::estimate(losses);
  result.excess = data::estimate(excesses);
  model.train(was_training);
  return result;
}

}  // namespace lamina::gpt

// SPDX-License-Identifier: MIT
// Loss on fixed batches, against the entropy floor where it is known. Excess is loss minus floor,
// window by window, so that what makes a window hard cancels; its standard error is over windows.
#pragma once

#include "examples/gpt/data.h"
#include "examples/gpt/model.h"

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace lamina::gpt {

/// The model predicts better than is possible: it sees what it should not.
struct InformationLeak : Error {
  using Error::Error;
};

/// Sums over the targets of one character class.
struct ClassLoss {
  std::int64_t targets = 0;
  double loss = 0.0, floor = 0.0;  // nats
};

struct Evaluation {
  data::Estimate loss;    // nats per token, over windows
  data::Estimate excess;  // the same minus the floor
  double floor = 0.0;     // nats per token
  bool has_floor = false;
  std::int64_t windows = 0;
  std::array<ClassLoss, data::kCharClasses> classes{};

  /// "val 0.1710  floor 0.1667  excess +0.0043 +- 0.0006"
  std::string text() const;

  /// {"open": {"targets": 3200, "loss": 0.71, "floor": 0.70}, ...}: the character classes that
  /// occur, in nats per target of the class. Empty without a floor.
  nlohmann::json skills() const;

  /// Throws Error when the loss is not finite, and InformationLeak when it is below the floor by
  /// more than four standard errors.
  void check() const;
};

/// -log P(target) of every position of the batch, row-major: f32, on its device. Holds the logits
/// of a few windows at a time.
Tensor token_losses(Gpt& model, const Batch& batch);

class Evaluator {
 public:
  /// Keeps batches 0 ... `batches` - 1 of the split on the device.
  Evaluator(const TokenLoader& loader, data::Split split, std::int64_t batches);

  /// Runs the model in evaluation mode, and leaves it in the mode that it was in. Waits for the
  /// device.
  Evaluation operator()(Gpt& model) const;

  /// Of these windows, in nats per token; nothing where the entropy is not known.
  std::optional<double> floor() const { return floor_; }

 private:
  std::int64_t context_;
  std::vector<Batch> batches_;
  std::vector<std::vector<FloorWindow>> floors_;  // by batch, then window; empty without a floor
  std::optional<double> floor_;
};

}  // namespace lamina::gpt

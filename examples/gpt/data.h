// SPDX-License-Identifier: MIT
// Batches of tokens for lamina-gpt. A TokenSource makes windows of context + 1 tokens by number:
// the built-in corpus (with its entropy floor), a user's text, shards of tokens, or random tokens.
// TokenLoader makes batches of them on a device; every batch depends on its number only, so the
// order of a text or of shards is part of the seed; the built-in corpus has one order.
#pragma once

#include "core/tensor.h"
#include "examples/gpt/scenes.h"
#include "examples/gpt/text.h"
#include "examples/gpt/token_directory.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lamina::gpt {

/// What the windows of a batch are predicted with at best.
struct FloorWindow {
  std::vector<float> surprisal;          // [context], nats per target
  std::vector<data::CharClass> classes;  // [context]
};

class TokenSource {
 public:
  virtual ~TokenSource() = default;

  /// Fills `tokens`, context + 1 long, with window `index` of a split.
  virtual void window(data::Split split, std::uint64_t index,
                      std::span<std::int32_t> tokens) const = 0;

  /// The oracle of that window; nothing where the entropy is not known.
  virtual std::optional<FloorWindow> floor(data::Split split, std::uint64_t index,
                                           std::int64_t context) const;

  virtual std::int64_t vocabulary_size() const = 0;

  /// One line for people.
  virtual std::string description() const = 0;
};

/// The generated corpus "easy" or "standard".
std::unique_ptr<TokenSource> corpus_source(const std::string& preset);

/// Windows at random places of the first 90% of `text`, or of the rest to validate. Throws Error
/// when a part is shorter than a window or `vocabulary` lacks a character.
std::unique_ptr<TokenSource> text_source(const std::string& text,
                                         const data::Vocabulary& vocabulary, std::int64_t context,
                                         std::uint64_t seed);

/// The windows of context + 1 tokens that follow each other in the shards of a directory (the last
/// token of one is the first of the next), in another order each epoch; what is left at the end of
/// a shard is not used. Throws Error when a part has no window.
std::unique_ptr<TokenSource> shard_source(data::TokenDirectory directory, std::int64_t context,
                                          std::uint64_t seed);

/// Uniformly random ids below `vocabulary_size`: for measuring speed.
std::unique_ptr<TokenSource> random_source(std::int64_t vocabulary_size, std::uint64_t seed);

struct Batch {
  Tensor inputs, targets;  // [batch, context], i32, on the loader's device
};

/// Views of tokens that lie as TokenLoader::write() lays them out: [2, batch, context].
Batch batch_of(const Tensor& tokens);

class TokenLoader {
 public:
  TokenLoader(const TokenSource& source, std::int64_t batch, std::int64_t context, Device device)
      : source_(source), batch_(batch), context_(context), device_(device) {}

  /// Batch `index` of a split: windows index * batch ...
  Batch batch(data::Split split, std::uint64_t index) const;

  /// The same to host memory: [2, batch, context], the inputs and then the targets.
  void write(data::Split split, std::uint64_t index, std::span<std::int32_t> to) const;

  /// The oracle of the windows of that batch, in order; empty where the entropy is not known.
  std::vector<FloorWindow> floors(data::Split split, std::uint64_t index) const;

  std::int64_t tokens_per_batch() const { return batch_ * context_; }

  std::int64_t context() const { return context_; }

 private:
  const TokenSource& source_;
  std::int64_t batch_, context_;
  Device device_;
};

}  // namespace lamina::gpt

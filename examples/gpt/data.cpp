// SPDX-License-Identifier: MIT
#include "examples/gpt/data.h"

#include "core/random.h"
#include "core/text.h"
#include "examples/gpt/shuffle.h"

#include <algorithm>
#include <utility>

namespace lamina::gpt {

namespace {

using data::Split;

/// Words of a stream of its own: the generator of weights and dropout has the key `seed` itself.
PhiloxRegion data_region(std::uint64_t seed, Split split) {
  constexpr std::uint64_t kDataStream = 0x746f6b656e730000;
  return {seed ^ kDataStream, static_cast<std::uint64_t>(split)};
}

class CorpusSource final : public TokenSource {
 public:
  explicit CorpusSource(std::string preset)
      : preset_(std::move(preset)), scenes_(data::SceneOptions::preset(preset_)) {}

  void window(Split split, std::uint64_t index, std::span<std::int32_t> tokens) const override {
    scenes_.window(split, index, tokens);
  }

  std::optional<FloorWindow> floor(Split split, std::uint64_t index,
                                   std::int64_t context) const override {
    data::Window window = scenes_.window(split, index, context);
    return FloorWindow{std::move(window.surprisal), std::move(window.classes)};
  }

  std::int64_t vocabulary_size() const override { return data::Vocabulary::builtin().size(); }

  std::string description() const override { return cat("built-in corpus, ", preset_); }

 private:
  std::string preset_;
  data::Scenes scenes_;
};

class TextSource final : public TokenSource {
 public:
  TextSource(const std::string& text, const data::Vocabulary& vocabulary, std::int64_t context,
             std::uint64_t seed)
      : split_(data::split_tokens(vocabulary.encode(text), context)),
        vocabulary_size_(vocabulary.size()),
        seed_(seed) {}

  void window(Split split, std::uint64_t index, std::span<std::int32_t> tokens) const override {
    const auto& part = split == Split::train ? split_.train : split_.validation;
    const std::uint64_t starts = part.size() - tokens.size() + 1;
    const PhiloxBlock words = philox_words(data_region(seed_, split), index);
    const std::uint64_t word = std::uint64_t{words.x} << 32U | words.y;
    std::copy_n(part.begin() + static_cast<std::ptrdiff_t>(word % starts), tokens.size(),
                tokens.begin());
  }

  std::int64_t vocabulary_size() const override { return vocabulary_size_; }

  std::string description() const override {
    return cat("text, ", split_.train.size(), " tokens to train on, ", split_.validation.size(),
               " to validate, ", vocabulary_size_, " symbols");
  }

 private:
  data::TokenSplit split_;
  std::int64_t vocabulary_size_;
  std::uint64_t seed_;
};

class ShardSource final : public TokenSource {
 public:
  ShardSource(data::TokenDirectory directory, std::int64_t context, std::uint64_t seed)
      : directory_(std::move(directory)),
        context_(static_cast<std::uint64_t>(context)),
        seed_(data_region(seed, Split::train).seed),
        train_(windows_of(directory_.train)),
        validation_(windows_of(directory_.validation)) {}

  void window(Split split, std::uint64_t index, std::span<std::int32_t> tokens) const override {
    const bool is_train = split == Split::train;
    const std::vector<std::uint64_t>& ends = is_train ? train_ : validation_;
    const std::uint64_t count = ends.back();
    const std::uint64_t at = data::shuffled(
        index % count, count, seed_ + static_cast<std::uint64_t>(split), index / count);
    const auto shard = std::upper_bound(ends.begin(), ends.end(), at) - ends.begin();
    const std::uint64_t before = shard > 0 ? ends[static_cast<std::size_t>(shard) - 1] : 0;
    (is_train ? directory_.train : directory_.validation)[static_cast<std::size_t>(shard)].read(
        (at - before) * context_, directory_.vocabulary_size, tokens);
  }

  std::int64_t vocabulary_size() const override { return directory_.vocabulary_size; }

  std::string description() const override {
    const auto text_of = [](const std::vector<data::TokenShard>& shards) {
      std::uint64_t tokens = 0;
      for (const data::TokenShard& shard : shards)
        tokens += shard.size();
      return cat(tokens, " tokens in ", shards.size(), shards.size() == 1 ? " shard" : " shards");
    };
    return cat("shards, ", text_of(directory_.train), " to train on, ",
               text_of(directory_.validation), " to validate, ", directory_.vocabulary_size,
               " symbols");
  }

 private:
  /// The number of windows in each shard and all before it.
  std::vector<std::uint64_t> windows_of(const std::vector<data::TokenShard>& shards) const {
    std::vector<std::uint64_t> ends;
    std::uint64_t count = 0, longest = 0;
    for (const data::TokenShard& shard : shards) {
      count += (shard.size() - 1) / context_;
      longest = std::max(longest, shard.size());
      ends.push_back(count);
    }
    if (count == 0) {
      throw Error(cat("data: ", shards.front().path(), " has ", longest,
                      " tokens, expected at least ", context_ + 1, " (--context ", context_,
                      " and a target)"));
    }
    return ends;
  }

  data::TokenDirectory directory_;
  std::uint64_t context_, seed_;
  std::vector<std::uint64_t> train_, validation_;
};

class RandomSource final : public TokenSource {
 public:
  RandomSource(std::int64_t vocabulary_size, std::uint64_t seed)
      : vocabulary_size_(vocabulary_size), seed_(seed) {}

  void window(Split split, std::uint64_t index, std::span<std::int32_t> tokens) const override {
    const PhiloxRegion region = data_region(seed_, split);
    const std::uint64_t groups = (tokens.size() + 3) / 4;
    for (std::size_t i = 0; i < tokens.size(); i += 4) {
      const PhiloxBlock words = philox_words(region, index * groups + i / 4);
      const std::uint32_t four[] = {words.x, words.y, words.z, words.w};
      for (std::size_t j = 0; j < 4 && i + j < tokens.size(); ++j) {
        tokens[i + j] = static_cast<std::int32_t>(
            std::uint64_t{four[j]} * static_cast<std::uint64_t>(vocabulary_size_) >> 32U);
      }
    }
  }

  std::int64_t vocabulary_size() const override { return vocabulary_size_; }

  std::string description() const override {
    return cat("random tokens, ", vocabulary_size_, " symbols");
  }

 private:
  std::int64_t vocabulary_size_;
  std::uint64_t seed_;
};

}  // namespace

std::optional<FloorWindow> TokenSource::floor(Split /*split*/, std::uint64_t /*index*/,
                                              std::int64_t /*context*/) const {
  return std::nullopt;
}

Batch batch_of(const Tensor& tokens) {
  const Shape shape = tokens.shape().sub(1, 3);
  return {.inputs = tokens.slice(0, 0, 1).reshape(shape),
          .targets = tokens.slice(0, 1, 2).reshape(shape)};
}

std::unique_ptr<TokenSource> corpus_source(const std::string& preset) {
  return std::make_unique<CorpusSource>(preset);
}

std::unique_ptr<TokenSource> text_source(const std::string& text,
                                         const data::Vocabulary& vocabulary, std::int64_t context,
                                         std::uint64_t seed) {
  return std::make_unique<TextSource>(text, vocabulary, context, seed);
}

std::unique_ptr<TokenSource> shard_source(data::TokenDirectory directory, std::int64_t context,
                                          std::uint64_t seed) {
  return std::make_unique<ShardSource>(std::move(directory), context, seed);
}

std::unique_ptr<TokenSource> random_source(std::int64_t vocabulary_size, std::uint64_t seed) {
  return std::make_unique<RandomSource>(vocabulary_size, seed);
}

void TokenLoader::write(Split split, std::uint64_t index, std::span<std::int32_t> to) const {
  const auto context = static_cast<std::size_t>(context_);
  const auto count = static_cast<std::size_t>(batch_);
  std::vector<std::int32_t> window(context + 1);
  for (std::size_t i = 0; i < count; ++i) {
    source_.window(split, index * count + i, window);
    const auto at = to.begin() + static_cast<std::ptrdiff_t>(i * context);
    std::copy_n(window.begin(), context, at);
    std::copy_n(window.begin() + 1, context, at + static_cast<std::ptrdiff_t>(count * context));
  }
}

Batch TokenLoader::batch(Split split, std::uint64_t index) const {
  std::vector<std::int32_t> both(static_cast<std::size_t>(2 * tokens_per_batch()));
  write(split, index, both);
  return batch_of(from_vector(both, {2, batch_, context_}, device_));
}

std::vector<FloorWindow> TokenLoader::floors(Split split, std::uint64_t index) const {
  std::vector<FloorWindow> result;
  for (std::int64_t i = 0; i < batch_; ++i) {
    const auto at = index * static_cast<std::uint64_t>(batch_) + static_cast<std::uint64_t>(i);
    std::optional<FloorWindow> window = source_.floor(split, at, context_);
    if (!window) return {};
    result.push_back(*std::move(window));
  }
  return result;
}

}  // namespace lamina::gpt

// SPDX-License-Identifier: MIT
#include "examples/gpt/prepare.h"

#include "core/mapped_file.h"
#include "core/text.h"
#include "examples/gpt/bpe.h"
#include "examples/gpt/cache.h"
#include "examples/gpt/crc32c.h"
#include "examples/gpt/disk.h"
#include "examples/gpt/gpt2_split.h"
#include "examples/gpt/meta_pickle.h"
#include "examples/gpt/shell_text.h"
#include "examples/gpt/token_directory.h"
#include "examples/gpt/tokenizer_file.h"
#include "examples/gpt/train.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <omp.h>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>

namespace lamina::gpt {

namespace {

namespace fs = std::filesystem;
using data::Level;
using data::ShardFormat;
using data::ShardRecord;
using data::Vocabulary;

/// The first place from `at` on where text can be cut so that its parts have the tokens of the
/// whole; text.size() when there is none.
std::size_t safe_cut(const Vocabulary& vocabulary, std::string_view text, std::size_t at) {
  if (at >= text.size()) return text.size();
  if (vocabulary.level() == Level::byte) return at;
  if (const data::Bpe* const bpe = vocabulary.bpe()) {
    const data::BpeParts& parts = bpe->parts();
    const bool has_blank = std::any_of(parts.special.begin(), parts.special.end(), [&](auto id) {
      return parts.tokens[static_cast<std::size_t>(id)].find_first_of(" \n\t\r") !=
             std::string::npos;
    });
    const bool is_cut = parts.split == data::PieceSplit::gpt2 && !has_blank;
    return is_cut ? data::gpt2_cut(text, at) : text.size();
  }
  constexpr unsigned kTopBits = 0xC0, kContinuation = 0x80;
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & kTopBits) == kContinuation)
    ++at;
  return at;
}

/// What separates texts: the token <|endoftext|>, where there is one.
std::optional<std::int32_t> end_of_text(const Vocabulary& vocabulary) {
  if (vocabulary.bpe() == nullptr) return std::nullopt;
  const data::BpeParts& parts = vocabulary.bpe()->parts();
  for (const std::int32_t id : parts.special)
    if (parts.tokens[static_cast<std::size_t>(id)] == "<|endoftext|>") return id;
  return std::nullopt;
}

/// Writes the shards of one part, "train" or "val".
class ShardWriter {
 public:
  /// most: tokens of a shard.
  ShardWriter(fs::path directory, std::string part, ShardFormat format, std::size_t id_bytes,
              std::uint64_t most)
      : directory_(std::move(directory)),
        part_(std::move(part)),
        format_(format),
        id_bytes_(id_bytes),
        most_(format == ShardFormat::llmc ? most : UINT64_MAX) {}

  void add(std::span<const std::int32_t> tokens) {
    while (!tokens.empty()) {
      if (!file_.is_open()) open();
      const auto count = static_cast<std::size_t>(
          std::min<std::uint64_t>(tokens.size(), most_ - records_.back().tokens));
      std::string bytes(count * id_bytes_, '\0');
      for (std::size_t i = 0; i < count; ++i)
        std::memcpy(bytes.data() + i * id_bytes_, &tokens[i], id_bytes_);
      write(bytes);
      records_.back().tokens += count;
      tokens = tokens.subspan(count);
      if (records_.back().tokens == most_) close();
    }
  }

  /// What was written, in order.
  std::vector<ShardRecord> finish() {
    if (file_.is_open()) close();
    return std::move(records_);
  }

 private:
  fs::path path() const { return directory_ / records_.back().file; }

  void open() {
    std::ostringstream name;
    name << part_;
    if (format_ == ShardFormat::llmc) {
      name << '_' << std::setfill('0') << std::setw(6) << records_.size();
    }
    name << ".bin";
    records_.push_back({.file = name.str()});
    file_.open(path(), std::ios::binary | std::ios::trunc);
    if (format_ == ShardFormat::llmc) write(data::shard_header(0, id_bytes_));
  }

  void write(std::string_view bytes) {
    file_.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    expect_written();
  }

  void expect_written() const {
    if (file_) return;
    throw Error(cat("prepare: ", path().string(),
                    " cannot be written: ", std::generic_category().message(errno)));
  }

  void close() {
    ShardRecord& record = records_.back();
    if (format_ == ShardFormat::llmc) {
      file_.seekp(0);
      write(data::shard_header(record.tokens, id_bytes_));
    }
    file_.close();
    expect_written();
    const MappedFile whole(path().string(), "prepare");
    record.bytes = whole.bytes().size();
    record.crc32c = crc32c(whole.bytes());
    SystemDisk().sync(path());
  }

  fs::path directory_;
  std::string part_;
  ShardFormat format_;
  std::size_t id_bytes_;
  std::uint64_t most_;
  std::ofstream file_;
  std::vector<ShardRecord> records_;
};

/// Encodes text on all cores. `where`: its place in a file, for errors.
void encode(const Vocabulary& vocabulary, std::string_view text, std::size_t where,
            const std::string& path, ShardWriter& writer) {
  constexpr std::size_t kPiece = std::size_t{1} << 20U;  // bytes, or more where it cannot be cut
  const auto most = static_cast<std::size_t>(4 * omp_get_max_threads());
  for (std::size_t begin = 0; begin < text.size();) {
    std::vector<std::pair<std::size_t, std::size_t>> pieces;
    while (pieces.size() < most && begin < text.size()) {
      const std::size_t end = safe_cut(vocabulary, text, begin + kPiece);
      pieces.emplace_back(begin, end);
      begin = end;
    }
    std::vector<std::vector<std::int32_t>> tokens(pieces.size());
    std::vector<std::string> errors(pieces.size());
#pragma omp parallel for schedule(dynamic)
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const auto [first, last] = pieces[i];
      try {
        tokens[i] = vocabulary.encode(text.substr(first, last - first));
      } catch (const std::exception& error) {
        errors[i] = cat("prepare: ", path, " from byte ", where + first, " on: ", error.what());
      }
    }
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      if (!errors[i].empty()) throw Error(errors[i]);
      writer.add(tokens[i]);
    }
  }
}

std::vector<MappedFile> open_texts(const Options& options) {
  std::vector<MappedFile> texts;
  for (const std::string& path : options.text) {
    texts.emplace_back(path, "prepare");
    if (texts.back().bytes().empty()) {
      throw Error(cat("prepare: ", path, " has 0 bytes, expected some text"));
    }
  }
  return texts;
}

Vocabulary vocabulary_of(const Options& options, const std::vector<MappedFile>& texts) {
  if (!options.tokenizer.empty()) return data::read_tokenizer(options.tokenizer);
  if (options.level == "byte") return Vocabulary::of_bytes();
  std::string all;  // one of each character, and more
  for (const MappedFile& text : texts) {
    const Vocabulary its = Vocabulary::from_text(text.bytes(), Level::character);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(its.size()));
    for (std::size_t id = 0; id < ids.size(); ++id)
      ids[id] = static_cast<std::int32_t>(id);
    all += its.decode(ids);
  }
  return Vocabulary::from_text(all, Level::character);
}

/// Throws UsageError.
void check(const Options& options) {
  if (options.text.empty() || options.out.empty()) {
    throw UsageError(cat("prepare: --", options.text.empty() ? "text" : "out",
                         " is not given, expected lamina-gpt prepare --text FILE... --out DIR"));
  }
  if (!options.tokenizer.empty() && options.level != "character") {
    throw UsageError("--level and --tokenizer are both given, expected one of them");
  }
  std::error_code ignored;
  if (fs::exists(options.out, ignored) && !fs::is_empty(options.out, ignored)) {
    throw UsageError(cat("--out ", options.out, " exists, expected a new or empty directory"));
  }
}

/// The directory where shards are written until all are there.
class Draft {
 public:
  explicit Draft(const fs::path& final) : final_(final), path_(final) {
    path_ += ".part";
    std::error_code error;
    if (fs::exists(path_, error)) {
      throw Error(cat("prepare: ", path_.string(), " exists (of a prepare that was stopped, or ",
                      "that runs), expected no such directory; remove it"));
    }
    fs::create_directories(path_, error);
    if (error) {
      throw Error(cat("prepare: ", path_.string(), " cannot be made: ", error.message()));
    }
  }

  ~Draft() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }

  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;

  const fs::path& path() const { return path_; }

  void commit() {
    SystemDisk disk;
    disk.sync(path_);
    disk.rename(path_, final_);
    path_.clear();
    disk.sync(fs::absolute(final_).parent_path());
  }

 private:
  fs::path final_, path_;
};

}  // namespace

int prepare(const Options& options, Console& console) {
  check(options);
  set_threads(options.threads);
  const std::vector<MappedFile> texts = open_texts(options);
  const Vocabulary vocabulary = vocabulary_of(options, texts);
  data::Manifest manifest{
      .format = options.format == "nanogpt" ? ShardFormat::nanogpt : ShardFormat::llmc,
      .vocabulary_size = vocabulary.size()};
  const std::size_t id_bytes = data::id_bytes(vocabulary.size());
  if (manifest.format == ShardFormat::nanogpt && id_bytes != 2) {
    throw Error(cat("prepare: the vocabulary has ", vocabulary.size(),
                    " tokens, expected at most 65536 (--format nanogpt has ids of 16 bits)"));
  }
  std::size_t bytes = 0;
  for (const MappedFile& text : texts)
    bytes += text.bytes().size();
  const auto train_bytes =
      static_cast<std::size_t>(static_cast<double>(bytes) * (1.0 - options.validation));

  Draft draft(options.out);
  const auto writer_of = [&](const char* part) {
    return ShardWriter(draft.path(), part, manifest.format, id_bytes,
                       static_cast<std::uint64_t>(options.shard_tokens));
  };
  ShardWriter train = writer_of("train"), validation = writer_of("val");
  const std::optional<std::int32_t> end = end_of_text(vocabulary);
  std::size_t before = 0;  // bytes of the files before
  for (const MappedFile& file : texts) {
    const std::string_view text = file.bytes();
    const std::size_t cut = train_bytes > before ? train_bytes - before : 0;
    const std::size_t middle = cut == 0 ? 0 : safe_cut(vocabulary, text, cut);
    encode(vocabulary, text.substr(0, middle), 0, file.path(), train);
    encode(vocabulary, text.substr(middle), middle, file.path(), validation);
    if (end) (middle == text.size() ? train : validation).add({&*end, 1});
    before += text.size();
  }
  manifest.train = train.finish();
  manifest.validation = validation.finish();
  for (const auto* const part : {&manifest.train, &manifest.validation}) {
    if (!part->empty()) continue;
    throw Error(cat("prepare: nothing is left ",
                    part == &manifest.train ? "to train on" : "to validate",
                    ", expected some of the ", bytes, " bytes; try another --validation"));
  }
  replace_file(draft.path() / "tokenizer.json", data::tokenizer_json(vocabulary).dump(1) + "\n");
  if (manifest.format == ShardFormat::nanogpt && vocabulary.level() == Level::character) {
    replace_file(draft.path() / "meta.pkl", data::meta_pickle(vocabulary));
  }
  replace_file(draft.path() / "manifest.json", data::manifest_text(manifest));
  draft.commit();

  const auto describe = [&](const char* what, const std::vector<ShardRecord>& shards) {
    std::uint64_t tokens = 0;
    for (const ShardRecord& shard : shards)
      tokens += shard.tokens;
    console.out << "  " << tokens << " tokens to " << what << ", in " << shards.size()
                << (shards.size() == 1 ? " shard\n" : " shards\n");
  };
  console.out << options.out << ": " << bytes << " bytes of text, " << vocabulary.size()
              << " symbols\n";
  describe("train on", manifest.train);
  describe("validate", manifest.validation);
  console.out << "train on them: " << console.program << " train --data "
              << shell_quoted(options.out) << '\n';
  return 0;
}

}  // namespace lamina::gpt

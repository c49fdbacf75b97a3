// SPDX-License-Identifier: MIT
// Shards of tokens, their directories and manifests, nanoGPT's meta.pkl, and the order of windows.
#include "examples/gpt/token_directory.h"

#include "examples/gpt/meta_pickle.h"
#include "examples/gpt/shuffle.h"
#include "examples/gpt/tokenizer_file.h"
#include "tests/examples/gpt_case.h"
#include "tests/support/error_of.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

namespace lamina::data {
namespace {

using ::lamina::gpt::TemporaryDirectory;
using ::lamina::testing::error_of;
using ::testing::HasSubstr;

template <class Id>
std::string bytes_of(const std::vector<Id>& ids) {
  return {reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(Id)};
}

std::string write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

std::vector<std::int32_t> read(const TokenShard& shard, std::int64_t vocabulary_size = 65536) {
  std::vector<std::int32_t> tokens(shard.size());
  shard.read(0, vocabulary_size, tokens);
  return tokens;
}

TEST(TokenShard, ReadsTheThreeForms) {
  const TemporaryDirectory directory;
  const std::vector<std::uint16_t> small = {5, 0, 65535};
  const std::vector<std::uint32_t> large = {7, 100000, 2};
  const TokenShard nanogpt(write(directory.file("a.bin"), bytes_of(small)));
  EXPECT_EQ(read(nanogpt), (std::vector<std::int32_t>{5, 0, 65535}));
  const TokenShard gpt2(write(directory.file("b.bin"), shard_header(3, 2) + bytes_of(small)));
  EXPECT_EQ(read(gpt2), (std::vector<std::int32_t>{5, 0, 65535}));
  const TokenShard llama(write(directory.file("c.bin"), shard_header(3, 4) + bytes_of(large)));
  EXPECT_EQ(read(llama, 128256), (std::vector<std::int32_t>{7, 100000, 2}));
}

// The header as llm.c's dataloader.h has it: 256 little-endian int32, magic, version, tokens.
TEST(TokenShard, WritesTheHeaderOfLlmC) {
  const std::string header = shard_header(0x01020304, 2);
  EXPECT_EQ(header.size(), 1024U);
  EXPECT_EQ(header.substr(0, 12),
            std::string("\x88\xd8\x34\x01\x01\x00\x00\x00\x04\x03\x02\x01", 12));
  EXPECT_EQ(header.find_first_not_of('\0', 12), std::string::npos);
  EXPECT_EQ(shard_header(1, 4).substr(0, 8), std::string("\xa1\xd9\x34\x01\x07\x00\x00\x00", 8));
}

TEST(TokenShard, RefusesFilesThatAreCutOrSomethingElse) {
  const auto error = [](const std::string& bytes) {
    return error_of([&] { shard_layout(bytes, "x.bin"); });
  };
  const std::string header = shard_header(3, 2);
  EXPECT_THAT(error(""), HasSubstr("x.bin: 0 bytes, expected uint16 ids"));
  EXPECT_THAT(error("abc"), HasSubstr("x.bin: 3 bytes, expected uint16 ids"));
  EXPECT_THAT(error(header + "12345"), HasSubstr("1029 bytes, expected 1030 (3 tokens"));
  EXPECT_THAT(error(header + "1234567"), HasSubstr("1031 bytes, expected 1030"));
  EXPECT_THAT(error(header.substr(0, 600)), HasSubstr("600 bytes, expected 1030"));
  EXPECT_THAT(error(shard_header(3, 4) + "123456"), HasSubstr("1030 bytes, expected 1036"));
  EXPECT_THAT(error(shard_header(0, 2)), HasSubstr("says 0 tokens"));
  EXPECT_THAT(error(shard_header(0xFFFFFFFFU, 2)), HasSubstr("says -1 tokens"));
  std::string newer = header + "123456";
  newer[4] = 2;
  EXPECT_THAT(error(newer), HasSubstr("version 2 of llm.c's format, expected 1"));
}

TEST(TokenShard, NamesTheFileAndThePlaceOfABadId) {
  const TemporaryDirectory directory;
  const std::string bytes = shard_header(3, 2) + bytes_of(std::vector<std::uint16_t>{1, 2, 300});
  const TokenShard shard(write(directory.file("bad.bin"), bytes));
  std::vector<std::int32_t> tokens(2);
  shard.read(0, 300, tokens);
  EXPECT_EQ(tokens, (std::vector<std::int32_t>{1, 2}));
  EXPECT_THAT(error_of([&] { shard.read(1, 300, tokens); }),
              HasSubstr("bad.bin: token 2 (byte 1028) is 300, expected less than 300"));
}

TEST(TokenShard, IsReadBeyondFourGibibytes) {
  const TemporaryDirectory directory;
  const std::string path = write(directory.file("large.bin"), "");
  constexpr std::uint64_t kTokens = (5ULL << 30U) / 2;
  std::filesystem::resize_file(path, 2 * kTokens);  // holes take no space
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(2 * (kTokens - 2)));
  file << bytes_of(std::vector<std::uint16_t>{17, 18});
  file.close();
  const TokenShard shard(path);
  EXPECT_EQ(shard.size(), kTokens);
  std::vector<std::int32_t> tokens(3);
  shard.read(kTokens - 3, 100, tokens);
  EXPECT_EQ(tokens, (std::vector<std::int32_t>{0, 17, 18}));
}

// pickle.dumps({"vocab_size": 5, "itos": {...}, "stoi": {...}}) of "\n", "a", "b", U+E9, U+1F600.
const std::string kProtocol2(
    "\x80\x02\x7d\x71\x00\x28\x58\x0a\x00\x00\x00vocab_size\x71\x01\x4b\x05\x58\x04\x00\x00\x00"
    "itos\x71\x02\x7d\x71\x03\x28\x4b\x00\x58\x01\x00\x00\x00\x0a\x71\x04\x4b\x01\x58\x01\x00\x00"
    "\x00\x61\x71\x05\x4b\x02\x58\x01\x00\x00\x00\x62\x71\x06\x4b\x03\x58\x02\x00\x00\x00\xc3\xa9"
    "\x71\x07\x4b\x04\x58\x04\x00\x00\x00\xf0\x9f\x98\x80\x71\x08\x75\x58\x04\x00\x00\x00stoi\x71"
    "\x09\x7d\x71\x0a\x28\x68\x04\x4b\x00\x68\x05\x4b\x01\x68\x06\x4b\x02\x68\x07\x4b\x03\x68\x08"
    "\x4b\x04\x75\x75\x2e",
    133);
const std::string kProtocol4(
    "\x80\x04\x95\x60\x00\x00\x00\x00\x00\x00\x00\x7d\x94\x28\x8c\x0avocab_size\x94\x4b\x05\x8c\x04"
    "itos\x94\x7d\x94\x28\x4b\x00\x8c\x01\x0a\x94\x4b\x01\x8c\x01\x61\x94\x4b\x02\x8c\x01\x62\x94"
    "\x4b\x03\x8c\x02\xc3\xa9\x94\x4b\x04\x8c\x04\xf0\x9f\x98\x80\x94\x75\x8c\x04stoi\x94\x7d\x94"
    "\x28\x68\x04\x4b\x00\x68\x05\x4b\x01\x68\x06\x4b\x02\x68\x07\x4b\x03\x68\x08\x4b\x04\x75\x75"
    "\x2e",
    107);

TEST(MetaPickle, ReadsWhatPythonWritesAndWritesWhatItReads) {
  const Vocabulary expected =
      Vocabulary::from_text("\nab\xc3\xa9\xf0\x9f\x98\x80", Level::character);
  EXPECT_EQ(vocabulary_from_meta(kProtocol2), expected);
  EXPECT_EQ(vocabulary_from_meta(kProtocol4), expected);
  EXPECT_EQ(vocabulary_from_meta(meta_pickle(expected)), expected);
}

TEST(MetaPickle, ExecutesNothingAndSaysWhatIsWrong) {
  const auto error = [](const std::string& pickle) {
    return error_of([&] { vocabulary_from_meta(pickle); });
  };
  EXPECT_THAT(error(std::string("\x80\x04\x8c\x05posix\x8c\x06system\x93.", 18)),
              HasSubstr("has operation 147"));
  EXPECT_THAT(error("cposix\nsystem\n."), HasSubstr("has operation 99"));
  EXPECT_THAT(error(std::string("\x80\x02}.", 4)), HasSubstr("there is no \"itos\""));
  EXPECT_THAT(error(std::string("\x80\x02.", 3)), HasSubstr("leaves no value"));
  EXPECT_THAT(error("h\x07."), HasSubstr("recalls value 7"));
  EXPECT_THAT(error("s"), HasSubstr("needs a value"));
  EXPECT_THAT(error("}K\x01u."), HasSubstr("needs a"));
  EXPECT_THAT(error("K\x01."), HasSubstr("where a dictionary is expected"));
  for (std::size_t size = 0; size + 1 < kProtocol4.size(); ++size)
    EXPECT_THAT(error(kProtocol4.substr(0, size)), HasSubstr("meta.pkl: byte")) << size;
  std::string swapped = kProtocol4;
  std::swap(swapped[swapped.find("\x8c\x01\x61") + 2], swapped[swapped.find("\x8c\x01\x62") + 2]);
  EXPECT_THAT(error(swapped), HasSubstr("ascending order"));
  std::string skipped = kProtocol4;
  skipped[skipped.find("\x4b\x03\x8c") + 1] = 9;
  EXPECT_THAT(error(skipped), HasSubstr("entry 3 of \"itos\" is something else"));
}

const Manifest kSome{.format = ShardFormat::nanogpt,
                     .vocabulary_size = 300,
                     .train = {{"train.bin", 3, 6, 4000000000U}},
                     .validation = {{"val.bin", 2, 4, 0}}};

TEST(TokenManifest, IsReadAsItWasWritten) {
  EXPECT_EQ(parse_manifest(manifest_text(kSome)), kSome);
}

TEST(TokenManifest, RefusesWhatIsMissingOrPointsElsewhere) {
  const std::string text = manifest_text(kSome);
  const auto error = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    changed.replace(changed.find(from), from.size(), to);
    return error_of([&] { parse_manifest(changed); });
  };
  EXPECT_THAT(error("\"train\"", "\"trains\""), HasSubstr("\"train\" is missing"));
  EXPECT_THAT(error("\"nanogpt\"", "\"parquet\""), HasSubstr("\"format\" is \"parquet\""));
  EXPECT_THAT(error("300", "-300"), HasSubstr("\"vocabulary_size\" is missing or"));
  EXPECT_THAT(error("300", "3000000000"), HasSubstr("is 3000000000, expected at most"));
  EXPECT_THAT(error("train.bin", "../train.bin"), HasSubstr("without a folder"));
  EXPECT_THAT(error("train.bin", "train.txt"), HasSubstr("without a folder"));
  EXPECT_THAT(error("{", "["), HasSubstr("manifest.json is not JSON"));
  EXPECT_THAT(error("\"format\"", "\"train\""), HasSubstr("has \"train\" twice"));
}

TEST(TokenDirectory, TakesWhatNanoGptAndLlmCLeave) {
  const TemporaryDirectory nanogpt, llmc;
  const std::string ids = bytes_of(std::vector<std::uint16_t>{1, 2, 3, 4});
  write(nanogpt.file("train.bin"), ids);
  write(nanogpt.file("val.bin"), ids);
  EXPECT_EQ(open_token_directory(nanogpt.file("")).vocabulary_size, 50257);
  write(nanogpt.file("meta.pkl"), kProtocol4);
  const TokenDirectory characters = open_token_directory(nanogpt.file(""));
  EXPECT_EQ(characters.vocabulary_size, 5);
  EXPECT_EQ(characters.vocabulary->decode(read(characters.train[0])), "ab\xc3\xa9\xf0\x9f\x98\x80");

  write(llmc.file("interval_train_000002.bin"), shard_header(1, 2) + "ab");
  write(llmc.file("interval_train_000001.bin"), shard_header(4, 2) + ids);
  write(llmc.file("interval_val_000000.bin"), shard_header(4, 2) + ids);
  const TokenDirectory two = open_token_directory(llmc.file(""));
  ASSERT_EQ(two.train.size(), 2U);
  EXPECT_EQ(two.train[0].size(), 4U);
  EXPECT_EQ(two.validation.size(), 1U);
  EXPECT_EQ(two.vocabulary_size, 50257);
  EXPECT_FALSE(two.vocabulary);
  EXPECT_NE(two.checksum, characters.checksum);
}

TEST(TokenDirectory, IsWhatItsManifestSays) {
  const TemporaryDirectory directory;
  const auto error = [&] { return error_of([&] { open_token_directory(directory.file("")); }); };
  EXPECT_THAT(error(), HasSubstr("has no .bin file with \"train\""));
  write(directory.file("train.bin"), "aabbcc");
  EXPECT_THAT(error(), HasSubstr("has no .bin file with \"val\""));
  write(directory.file("val.bin"), "aabb");
  Manifest manifest = kSome;
  manifest.vocabulary_size = 50257;
  write(directory.file("manifest.json"), manifest_text(manifest));
  EXPECT_EQ(error(), "no error");
  write(directory.file("train2.bin"), "aa");
  EXPECT_THAT(error(), HasSubstr("train2.bin is not in manifest.json"));
  std::filesystem::remove(directory.file("train2.bin"));
  write(directory.file("val.bin"), "aa");
  EXPECT_THAT(error(), HasSubstr("val.bin has 1 tokens in 2 bytes, expected 2 in 4"));
  write(directory.file("val2.bin"), "aabb");
  std::filesystem::remove(directory.file("val.bin"));
  EXPECT_THAT(error(), HasSubstr("val.bin is missing"));
  write(directory.file("val.bin"), "aabb");
  std::filesystem::remove(directory.file("val2.bin"));
  manifest.vocabulary_size = 100;
  write(directory.file("manifest.json"), manifest_text(manifest));
  EXPECT_THAT(error(), HasSubstr("has a vocabulary of 50257, expected 100"));
  EXPECT_THAT(error_of([&] { open_token_directory(directory.file("none")); }),
              HasSubstr("none is no directory"));
}

TEST(Shuffled, IsAPermutationOfItsOwnForEachEpochAndSeed) {
  for (const std::uint64_t count : {1U, 2U, 3U, 4U, 5U, 63U, 64U, 65U, 1000U}) {
    std::set<std::vector<std::uint64_t>> orders;
    for (const std::uint64_t seed : {1U, 2U}) {
      for (const std::uint64_t epoch : {0U, 1U}) {
        std::vector<std::uint64_t> order;
        for (std::uint64_t i = 0; i < count; ++i)
          order.push_back(shuffled(i, count, seed, epoch));
        orders.insert(order);
        std::sort(order.begin(), order.end());
        for (std::uint64_t i = 0; i < count; ++i)
          ASSERT_EQ(order[i], i) << count;
      }
    }
    EXPECT_GE(orders.size(), count > 60 ? 4U : 1U) << count;
  }
}

/// Where each tenth of the numbers goes: chi-squared of 10 x 10 places with 81 degrees of freedom.
TEST(Shuffled, SendsEveryPartEverywhere) {
  constexpr std::uint64_t kCount = 10000;
  std::vector<std::vector<double>> places(10, std::vector<double>(10));
  for (std::uint64_t i = 0; i < kCount; ++i)
    places[i * 10 / kCount][shuffled(i, kCount, 3, 5) * 10 / kCount] += 1.0;
  double chi_squared = 0.0;
  for (const std::vector<double>& row : places)
    for (const double count : row)
      chi_squared += (count - 100.0) * (count - 100.0) / 100.0;
  EXPECT_GT(chi_squared, 45.0);   // less has a probability of 0.1%
  EXPECT_LT(chi_squared, 125.0);  // as has more
}

}  // namespace
}  // namespace lamina::data

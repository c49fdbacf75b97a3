// SPDX-License-Identifier: MIT
// A checkpoint of a training on the disk of this machine, of which a bit flips or a file is cut.
#include "core/random.h"
#include "core/text.h"
#include "examples/gpt/checkpoint.h"
#include "examples/gpt/checkpoint_store.h"
#include "tests/examples/gpt_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace lamina::gpt {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::array<std::string_view, 4> kFiles = {"model.safetensors", "optimizer.safetensors",
                                                    "state.json", "MANIFEST"};

/// A run with the checkpoints of its steps 2 and 4.
class DamagedCheckpoint : public ::testing::Test {
 protected:
  void SetUp() override {
    const Outcome outcome =
        train_tiny(out, {"--steps", "4", "--checkpoint-every", "2", "--eval-every", "0", "--layers",
                         "1", "--width", "8", "--context", "8"});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    ASSERT_THAT(store.steps(), ElementsAre(4, 2));
    for (const std::string_view name : kFiles)
      whole.push_back(content_of(store.path_of(4) / name));
  }

  std::size_t draw(std::size_t below) {
    return static_cast<std::size_t>(uniform_at(generator.next(), 0) * static_cast<double>(below));
  }

  /// A file of step 4 with one bit or its end changed, written to the disk; even: a bit.
  fs::path damage(std::size_t file, std::size_t how) {
    std::string content = whole[file];
    const std::size_t at = draw(content.size());
    if (how % 2 == 0) {
      content[at] = static_cast<char>(content[at] ^ 1 << draw(8));
    } else {
      content.resize(at);
    }
    return write((store.path_of(4) / kFiles[file]).string(), content);
  }

  void repair(std::size_t file) { write((store.path_of(4) / kFiles[file]).string(), whole[file]); }

  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  SystemDisk disk;
  const CheckpointStore store{disk, fs::path(out) / "checkpoints"};
  std::vector<std::string> whole;  // the files of step 4, as kFiles
  Generator generator{11};
};

TEST_F(DamagedCheckpoint, IsDetectedAfterEveryFlipAndCut) {
  for (std::size_t i = 0; i < 400; ++i) {
    const std::size_t file = i / 2 % kFiles.size();
    const fs::path path = damage(file, i);
    std::vector<std::string> reports;
    ASSERT_EQ(store.newest_intact([&](const std::string& what) { reports.push_back(what); }), 2)
        << path << " " << i;
    ASSERT_THAT(reports, ElementsAre(StartsWith(path.string()))) << i;
    repair(file);
  }
  EXPECT_EQ(store.newest_intact([](const std::string& /*what*/) {}), 4);
}

TEST_F(DamagedCheckpoint, IsNotReadAndTheOneBeforeIsNamed) {
  for (std::size_t i = 0; i < 200; ++i) {
    const std::size_t file = i % 4 < 2 ? 0 : 3;  // sample and export read the model and MANIFEST
    const fs::path path = damage(file, i);
    try {
      load_checkpoint(out);
      FAIL() << path << " " << i;
    } catch (const Error& error) {
      ASSERT_THAT(error.what(), AllOf(HasSubstr(path.string()),
                                      HasSubstr(store.path_of(2).string() + " is intact")));
    }
    repair(file);
  }
  EXPECT_EQ(load_checkpoint(out).path, store.path_of(4) / kFiles[0]);
}

TEST_F(DamagedCheckpoint, IsNamedByTrainWhichGoesOnFromTheOneBefore) {
  for (std::size_t i = 0; i < 2 * kFiles.size(); ++i) {
    const fs::path path = damage(i / 2, i);
    const Outcome outcome = run({"train", "--out", out});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    ASSERT_THAT(outcome.out,
                AllOf(HasSubstr("damaged " + path.string()), HasSubstr("resume  step 2, from ")));
    for (const std::size_t file : {0, 1})  // the bits of the run that was not damaged
      ASSERT_TRUE(content_of(store.path_of(4) / kFiles[file]) == whole[file]) << path;
    whole[2] = content_of(store.path_of(4) / kFiles[2]);  // times
    whole[3] = content_of(store.path_of(4) / kFiles[3]);
  }
}

}  // namespace
}  // namespace lamina::gpt

// SPDX-License-Identifier: MIT
// CSV files and TensorBoard events of a run. tests/formats/tensorboard_reads.py compares with what
// TensorBoard itself reads.
#include "examples/gpt/metrics.h"

#include "examples/gpt/log.h"
#include "tests/examples/gpt_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>

namespace lamina::gpt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;
using Json = nlohmann::json;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);)
    lines.push_back(line);
  return lines;
}

/// The only file of TensorBoard in a directory.
std::string event_file_in(const fs::path& directory) {
  std::string found;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    if (!entry.path().filename().string().starts_with("events.out.tfevents.")) continue;
    EXPECT_EQ(found, "");
    found = entry.path().string();
  }
  return found;
}

std::string hex(const std::string& bytes) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text;
  for (const char byte : bytes) {
    const auto value = static_cast<unsigned char>(byte);
    text += {kDigits[value / 16], kDigits[value % 16]};
  }
  return text;
}

/// Lengths of the data of all records; the file must end with one.
std::vector<std::uint64_t> record_lengths(const std::string& bytes) {
  constexpr std::size_t kHead = 12, kTail = 4;
  std::vector<std::uint64_t> lengths;
  std::size_t at = 0;
  while (at + kHead <= bytes.size()) {
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data() + at, sizeof(length));
    lengths.push_back(length);
    at += kHead + length + kTail;
  }
  EXPECT_EQ(at, bytes.size());
  return lengths;
}

TEST(EventRecord, HasTheBytesThatTensorBoardWrites) {
  // tensorboard 2.21: RecordWriter of an Event with these values.
  const std::vector<Scalar> scalars = {{"train/loss", 1.5}, {"train/lr", kNan}};
  EXPECT_EQ(hex(event_record(1700000000.25, 300, scalars)),
            "3200000000000000241956ec"
            "0900001040fc54d94110ac022a240a110a0a747261696e2f6c6f7373150000c03f"
            "0a0f0a08747261696e2f6c72150000c07f"
            "cc1cffe1");
}

TEST(Metrics, AreRowsWithTheColumnsOfTheFirst) {
  const TemporaryDirectory directory;
  {
    Metrics metrics(directory.file(""), "csv");
    metrics.write({{"event", "start"}, {"parameters", 7}});
    metrics.write({{"event", "step"}, {"step", 1}, {"loss", 4.25}, {"tok_s", 1e300}});
    metrics.write({{"event", "step"}, {"step", 2}, {"loss", kNan}, {"new", 3}});
    metrics.write({{"event", "eval"}, {"step", 2}, {"skills", {{"copy", {{"loss", -0.1}}}}}});
    metrics.write({{"event", "end"}, {"step", 2}, {"reason", "steps"}});
  }
  EXPECT_EQ(content_of(directory.file("steps.csv")), "step,loss,tok_s\n1,4.25,1e+300\n2,nan,\n");
  EXPECT_EQ(content_of(directory.file("evals.csv")), "step,skills/copy/loss\n2,-0.1\n");
  EXPECT_EQ(event_file_in(directory.file("")), "");
}

TEST(Metrics, AreNowhereUnlessAskedFor) {
  const TemporaryDirectory directory;
  Metrics metrics(directory.file(""), "none");
  metrics.write({{"event", "step"}, {"step", 1}, {"loss", 4.25}});
  EXPECT_TRUE(fs::is_empty(directory.file("")));
}

TEST(Metrics, SayWhichFileCannotBeWritten) {
  const TemporaryDirectory directory;
  const std::string nowhere = directory.file("nowhere");
  EXPECT_THAT([&] { Metrics(nowhere, "tensorboard"); },
              ThrowsMessage<Error>(AllOf(HasSubstr(nowhere + "/events.out.tfevents."),
                                         HasSubstr(" cannot be written: No such file"))));
  Metrics metrics(nowhere, "csv");
  EXPECT_THAT(
      [&] {
        metrics.write({{"event", "step"}, {"step", 1}});
      },
      ThrowsMessage<Error>(HasSubstr(nowhere + "/steps.csv cannot be written: No such file")));
}

TEST(RunLog, SaysWhyItCannotBeWritten) {
  const TemporaryDirectory directory;
  EXPECT_THAT([&] { RunLog(directory.file("")); },
              ThrowsMessage<Error>(HasSubstr(" cannot be written: Is a directory")));
  RunLog log("/dev/full");
  EXPECT_THAT(
      [&] {
        log.write({{"event", "step"}});
      },
      ThrowsMessage<Error>("log: writing /dev/full failed: No space left on device"));
  EXPECT_THAT([] { write_file("/dev/full", "text"); },
              ThrowsMessage<Error>("run: writing /dev/full failed: No space left on device"));
}

TEST(Metrics, AreThoseOfTheLogOfATraining) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  const Outcome outcome = run({"train", "--device",
                               "cpu",   "--layers",
                               "1",     "--width",
                               "32",    "--heads",
                               "2",     "--batch",
                               "2",     "--context",
                               "16",    "--steps",
                               "5",     "--log-every",
                               "2",     "--eval-every",
                               "2",     "--eval-batches",
                               "1",     "--samples",
                               "0",     "--metrics=csv,tensorboard",
                               "--out", out});
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  std::vector<std::int64_t> steps, evals;
  for (const std::string& line : lines_of(out + "/log.jsonl")) {
    const Json record = Json::parse(line);
    if (record["event"] == "step") steps.push_back(record["step"]);
    if (record["event"] == "eval") evals.push_back(record["step"]);
  }
  EXPECT_EQ(evals, (std::vector<std::int64_t>{2, 4, 5}));
  for (const auto& [name, expected] : {std::pair{"steps", steps}, std::pair{"evals", evals}}) {
    const std::vector<std::string> lines = lines_of(out + "/" + name + ".csv");
    std::vector<std::int64_t> found;
    for (std::size_t i = 1; i < lines.size(); ++i) {
      EXPECT_EQ(std::count(lines[i].begin(), lines[i].end(), ','),
                std::count(lines[0].begin(), lines[0].end(), ','));
      found.push_back(std::stoll(lines[i]));
    }
    EXPECT_EQ(found, expected) << name;
  }
  EXPECT_EQ(record_lengths(content_of(event_file_in(out))).size(), 1 + steps.size() + evals.size());
}

}  // namespace
}  // namespace lamina::gpt

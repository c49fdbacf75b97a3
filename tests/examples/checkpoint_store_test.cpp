// SPDX-License-Identifier: MIT
// The protocol of checkpoints on a disk that fails, fills up, loses its power or changes bits.
#include "examples/gpt/checkpoint_store.h"

#include "examples/gpt/crc32c.h"
#include "tests/examples/gpt_case.h"
#include "tests/examples/simulated_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lamina::gpt {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using Fault = SimulatedDisk::Fault;

const fs::path kDirectory = "/run/checkpoints";

/// What the files of a step hold.
std::string file_text(std::int64_t step, std::string_view name) {
  std::string text = cat(name, " of ", step, ":");
  for (std::int64_t i = 0; i < 20 + step % 7; ++i)
    text += static_cast<char>(i * 37 + step);
  return text;
}

constexpr std::string_view kNames[] = {"model.safetensors", "optimizer.safetensors", "state.json"};

void commit(const CheckpointStore& store, std::int64_t step) {
  std::vector<std::string> texts;
  for (const std::string_view name : kNames)
    texts.push_back(file_text(step, name));
  std::vector<CheckpointFile> files;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::string_view text = texts[i];
    files.push_back({std::string(kNames[i]), {text.substr(0, 9), text.substr(9)}});
  }
  store.commit(step, files);
}

std::optional<std::int64_t> newest(const CheckpointStore& store) {
  return store.newest_intact([](const std::string& /*what*/) {});
}

void expect_content(const SimulatedDisk& disk, const CheckpointStore& store, std::int64_t step) {
  for (const std::string_view name : kNames) {
    std::string text;
    disk.read(store.path_of(step) / name, [&](std::string_view bytes) { text += bytes; });
    EXPECT_EQ(text, file_text(step, name));
  }
}

/// With the directory of a run.
class Simulation {
 public:
  explicit Simulation(std::uint64_t seed = 1) : disk(seed) {
    disk.make_directory("/run");
    disk.sync("/");
  }

  SimulatedDisk disk;
  CheckpointStore store{disk, kDirectory};
};

TEST(Crc32c, IsThatOfTheStandard) {
  // RFC 3720, appendix B.4.
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);
  std::string rising;
  for (char byte = 0; byte < 32; ++byte)
    rising += byte;
  EXPECT_EQ(crc32c(rising), 0x46dd794eU);
  for (std::size_t cut = 0; cut <= rising.size(); ++cut) {
    Crc32c crc;
    crc.add(std::string_view(rising).substr(0, cut));
    crc.add(std::string_view(rising).substr(cut));
    EXPECT_EQ(crc.value(), 0x46dd794eU) << cut;
  }
}

TEST(CheckpointStore, FindsWhatItWrote) {
  Simulation simulation;
  const CheckpointStore& store = simulation.store;
  EXPECT_EQ(newest(store), std::nullopt);
  for (const std::int64_t step : {9, 10, 123456789})
    commit(store, step);
  store.point("best", 10);
  EXPECT_THAT(store.steps(), ElementsAre(123456789, 10, 9));
  EXPECT_EQ(newest(store), 123456789);
  EXPECT_EQ(store.target("latest"), 123456789);
  EXPECT_EQ(store.target("best"), 10);
  EXPECT_EQ(store.path_of(9), kDirectory / "step_00000009");
  expect_content(simulation.disk, store, 9);
}

TEST(CheckpointStore, KeepsTheNewestTheBestAndThoseOfEveryFewSteps) {
  Simulation simulation;
  const CheckpointStore& store = simulation.store;
  for (std::int64_t step = 1; step <= 12; ++step) {
    commit(store, step);
    if (step == 3) store.point("best", step);
    store.prune({.newest = 2, .every = 5});
  }
  EXPECT_THAT(store.steps(), ElementsAre(12, 11, 10, 5, 3));
  store.point("best", 12);
  store.prune({.newest = 1});
  EXPECT_THAT(store.steps(), ElementsAre(12));
}

TEST(CheckpointStore, NeverPrunesTheLastIntactOne) {
  Simulation simulation;
  const CheckpointStore& store = simulation.store;
  for (std::int64_t step = 1; step <= 4; ++step)
    commit(store, step);
  for (const std::int64_t step : {3, 4})
    simulation.disk.content(store.path_of(step) / "state.json")[3] ^= 1;
  std::vector<std::string> reports;
  EXPECT_EQ(store.newest_intact([&](const std::string& what) { reports.push_back(what); }), 2);
  ASSERT_EQ(reports.size(), 2U);
  EXPECT_THAT(reports[0], StartsWith("/run/checkpoints/step_00000004/state.json has the checksum"));
  store.point("latest", 2);
  store.prune({.newest = 1});  // those of steps 3 and 4 are not newer checkpoints, but none
  EXPECT_THAT(store.steps(), ElementsAre(4, 3, 2));
  commit(store, 3);  // in the place of the damaged one
  store.prune({.newest = 1});
  EXPECT_EQ(newest(store), 3);
  EXPECT_THAT(store.steps(), ElementsAre(4, 3));
}

TEST(CheckpointStore, GoesBackToAnEarlierStep) {
  Simulation simulation;
  const CheckpointStore& store = simulation.store;
  for (std::int64_t step = 1; step <= 4; ++step)
    commit(store, step);
  store.point("best", 3);
  store.go_back_to(2);
  EXPECT_THAT(store.steps(), ElementsAre(2, 1));
  EXPECT_EQ(store.target("latest"), 2);
  EXPECT_EQ(store.target("best"), std::nullopt);
}

TEST(CheckpointStore, SurvivesAFailureOfEveryOperation) {
  int points = 0;
  for (const Fault fault : {Fault::error, Fault::full}) {
    for (bool has_failed = true; has_failed;) {
      Simulation simulation;
      SimulatedDisk& disk = simulation.disk;
      const CheckpointStore& store = simulation.store;
      for (std::int64_t step = 1; step <= 3; ++step)
        commit(store, step);
      disk.fail_after(points % 1000, fault);
      std::int64_t least = 3;
      try {
        commit(store, 4);
        least = 4;
        store.point("best", 4);
        store.prune({.newest = 2});
      } catch (const Error&) {
        EXPECT_TRUE(disk.has_failed());
      }
      has_failed = disk.has_failed();
      disk.repair();
      const auto found = newest(store);
      ASSERT_TRUE(found && *found >= least) << points;
      expect_content(disk, store, *found);
      const std::vector<std::string> names = disk.list(kDirectory);
      if (fault == Fault::error && least == 3) {  // it has tidied up
        EXPECT_THAT(names, Not(Contains(".tmp-step_00000004"))) << points;
      }
      store.clean();
      for (const std::string& name : disk.list(kDirectory))
        EXPECT_THAT(name, Not(StartsWith(".tmp"))) << points;
      commit(store, 4);
      commit(store, 5);
      store.prune({.newest = 2});
      EXPECT_EQ(newest(store), 5);
      EXPECT_THAT(store.steps(), ElementsAre(5, 4));
      ++points;
    }
    EXPECT_GT(points % 1000, 20);
    points = 1000;
  }
}

TEST(CheckpointStore, SurvivesTenThousandPowerCuts) {
  int cuts = 0;
  for (std::uint64_t seed = 0; cuts < 10000; ++seed) {
    Simulation simulation(seed);
    SimulatedDisk& disk = simulation.disk;
    const CheckpointStore& store = simulation.store;
    const auto keep = Retention{.newest = 1 + static_cast<std::int64_t>(seed % 3),
                                .every = static_cast<std::int64_t>(seed % 2 * 3)};
    std::int64_t begun = 0, done = 0, best = 0;
    disk.fail_after(static_cast<std::int64_t>(seed * 7919 % 160), Fault::power);
    // Twice: what a power cut leaves is the start of the next run.
    for (int life = 0; life < 2; ++life) {
      try {
        store.clean();
        if (done > 0) store.point("latest", done);
        for (std::int64_t i = 0; i < 6; ++i) {
          begun = done + 1;
          commit(store, begun);
          done = begun;
          if (done % 4 == 1) {
            store.point("best", done);
            best = done;
          }
          store.prune(keep);
        }
      } catch (const PowerCut&) {
        ++cuts;
      }
      disk.cut_power();
      const auto found = newest(store);
      ASSERT_GE(found.value_or(0), done) << seed;
      ASSERT_LE(found.value_or(0), begun) << seed;
      for (const std::string& name : disk.list(kDirectory)) {
        if (name != "latest" && name != "best") continue;
        ASSERT_EQ(store.fault(store.target(name).value_or(0)), "") << seed << name;
      }
      if (best > 0) {
        ASSERT_TRUE(store.target("best")) << seed;
      }
      if (found) expect_content(disk, store, *found);
      done = found.value_or(0);
      disk.fail_after(static_cast<std::int64_t>(seed * 104729 % 160), Fault::power);
    }
  }
}

TEST(CheckpointStore, DetectsTenThousandFlipsAndCuts) {
  Simulation simulation;
  const CheckpointStore& store = simulation.store;
  commit(store, 1);
  commit(store, 2);
  std::vector<std::string> names(std::begin(kNames), std::end(kNames));
  names.emplace_back("MANIFEST");
  Generator generator(5);
  for (int i = 0; i < 10000; ++i) {
    const auto draw = [&](std::size_t below) {
      return static_cast<std::size_t>(uniform_at(generator.next(), 0) * static_cast<double>(below));
    };
    const fs::path path = store.path_of(2) / names[draw(names.size())];
    std::string& content = simulation.disk.content(path);
    const std::string before = content;
    const std::size_t at = draw(content.size());
    if (i % 2 == 0) {
      content[at] = static_cast<char>(content[at] ^ 1 << draw(8));
    } else {
      content.resize(at);
    }
    std::string report;
    ASSERT_EQ(store.newest_intact([&](const std::string& what) { report = what; }), 1) << path;
    EXPECT_THAT(report, StartsWith(path.string()));
    content = before;
  }
  EXPECT_EQ(newest(store), 2);
}

TEST(CheckpointStore, ReadsOnlyTheFilesThatAreAskedFor) {
  Simulation simulation;
  commit(simulation.store, 1);
  simulation.disk.content(simulation.store.path_of(1) / "state.json").clear();
  constexpr std::string_view kOnly[] = {"model.safetensors"};
  EXPECT_EQ(simulation.store.fault(1, kOnly), "");
  EXPECT_THAT(simulation.store.fault(1), HasSubstr("state.json has 0 bytes"));
}

TEST(CheckpointStore, WorksOnTheDiskOfThisMachine) {
  const TemporaryDirectory directory;
  SystemDisk disk;
  const CheckpointStore store(disk, directory.file("checkpoints"));
  EXPECT_THAT(store.steps(), IsEmpty());
  for (std::int64_t step = 1; step <= 3; ++step) {
    commit(store, step);
    store.point("best", 1);
    store.prune({.newest = 1});
  }
  EXPECT_THAT(store.steps(), ElementsAre(3, 1));
  EXPECT_EQ(store.fault(3), "");
  EXPECT_EQ(store.target("best"), 1);
  commit(store, 3);
  fs::remove(store.path_of(3) / "state.json");
  EXPECT_THAT(store.fault(3), HasSubstr("state.json failed: No such file or directory"));
  EXPECT_EQ(newest(store), 1);
  EXPECT_EQ(std::distance(fs::directory_iterator(directory.file("checkpoints")), {}), 4);
}

}  // namespace
}  // namespace lamina::gpt

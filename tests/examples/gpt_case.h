// SPDX-License-Identifier: MIT
// For tests of lamina-gpt: a directory that goes away, the program's command line in this
// process, and a short training with its log.
#pragma once

#include "core/error.h"
#include "examples/gpt/cli.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <sys/resource.h>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace lamina::gpt {

namespace fs = std::filesystem;

/// A new directory that is removed at the end of the test.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (fs::temp_directory_path() / "lamina_gpt_test_XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw Error("no temporary directory");
    path_ = name;
  }

  ~TemporaryDirectory() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }

  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

/// While it lives, no file can be larger than so many bytes, as on a full disk; signals as in
/// main().
class SmallFiles {
 public:
  explicit SmallFiles(rlim_t bytes) : previous_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &limit_);
    const rlimit small{bytes, limit_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
  }

  ~SmallFiles() {
    setrlimit(RLIMIT_FSIZE, &limit_);
    (void)std::signal(SIGXFSZ, previous_);
  }

  SmallFiles(const SmallFiles&) = delete;
  SmallFiles& operator=(const SmallFiles&) = delete;

 private:
  rlimit limit_{};
  void (*previous_)(int);
};

struct Outcome {
  int status;
  std::string out, errors;
};

/// With a cache directory of the tests' own, where timed plans of matrix products are kept.
inline Outcome run(const std::vector<std::string>& arguments) {
  static const TemporaryDirectory cache;
  setenv("XDG_CACHE_HOME", cache.file("").c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
  std::ostringstream out, errors;
  Console console{.out = out, .errors = errors};
  const int status = run_command(arguments, console);
  return {status, out.str(), errors.str()};
}

/// lamina-gpt train with a model of some 10,000 parameters.
inline Outcome train_tiny(const std::string& directory, std::vector<std::string> more) {
  std::vector<std::string> arguments = {
      "train",  "--preset",       "toy-cpu", "--device",       "cpu", "--layers",  "2", "--width",
      "32",     "--heads",        "2",       "--context",      "32",  "--batch",   "8", "--warmup",
      "5",      "--eval-batches", "2",       "--sample-chars", "40",  "--samples", "1", "--out",
      directory};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run(arguments);
}

/// The bytes of a file.
inline std::string content_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Writes a file and gives its path.
inline std::string write(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

/// The records of log.jsonl without what depends on time, memory or how the step is done.
inline std::vector<nlohmann::json> timeless_log(const std::string& directory) {
  std::ifstream file(directory + "/log.jsonl");
  std::vector<nlohmann::json> records;
  for (std::string line; std::getline(file, line);) {
    nlohmann::json record = nlohmann::json::parse(line);
    for (const char* key :
         {"ms", "tok_s", "elapsed_s", "memory", "memory_plan", "machine", "graph_nodes"})
      record.erase(key);
    records.push_back(std::move(record));
  }
  return records;
}

/// Acts when the log has a line with this text: the run listens to signals by then.
inline std::thread after_line(const std::string& text, const std::string& directory,
                              const std::function<void()>& action) {
  return std::thread([=] {
    for (int i = 0; i < 3000; ++i) {
      std::ifstream file(directory + "/log.jsonl");
      for (std::string line; std::getline(file, line);) {
        if (line.find(text) == std::string::npos) continue;
        action();
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  });
}

/// The same for the first record of an event.
inline std::thread after(const std::string& event, const std::string& directory,
                         const std::function<void()>& action) {
  return after_line("\"event\":\"" + event + "\"", directory, action);
}

inline std::string weights_of(const std::string& directory) {
  const std::vector<nlohmann::json> log = timeless_log(directory);
  return log.empty() ? "" : log.back().value("weights", "");
}

}  // namespace lamina::gpt

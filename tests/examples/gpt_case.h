// SPDX-License-Identifier: MIT
// For tests of lamina-gpt: a directory that goes away, and the program's command line in this
// process.
#pragma once

#include "core/error.h"
#include "examples/gpt/cli.h"

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <system_error>
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

struct Outcome {
  int status;
  std::string out, errors;
};

inline Outcome run(const std::vector<std::string>& arguments) {
  std::ostringstream out, errors;
  Console console{.out = out, .errors = errors};
  const int status = run_command(arguments, console);
  return {status, out.str(), errors.str()};
}

}  // namespace lamina::gpt

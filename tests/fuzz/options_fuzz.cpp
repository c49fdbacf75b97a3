// SPDX-License-Identifier: MIT
// libFuzzer target: the command line of lamina-gpt, a line of the input for each argument, the
// first for the command; of a line "{...}" a --config file is made. Built and run by .ci/fuzz.
#include "examples/gpt/options.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <unistd.h>
#include <vector>

namespace {

/// A folder of this process's own, in which arguments cannot name anything by accident.
std::string config_path() {
  static const std::string path = [] {
    std::string folder = (std::filesystem::temp_directory_path() / "lamina-fuzz-XXXXXX").string();
    if (mkdtemp(folder.data()) == nullptr || chdir(folder.c_str()) != 0) std::abort();
    return folder + "/config.json";
  }();
  return path;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lamina::gpt;
  const std::string path = config_path();
  std::istringstream lines(std::string(reinterpret_cast<const char*>(data), size));
  std::string word;
  std::getline(lines, word);
  try {
    const Command command = parse_command(word);
    std::vector<std::string> arguments;
    while (std::getline(lines, word)) {
      if (word.starts_with("/") || word.find("=/") != std::string::npos) return 0;  // /dev/zero
      if (word.starts_with("{")) {
        std::ofstream(path, std::ios::binary) << word;
        arguments.insert(arguments.end(), {"--config", path});
      } else {
        arguments.push_back(word);
      }
    }
    const Options options = parse_options(command, arguments);
    if (options.help) return 0;
    // What was taken can be said again.
    std::ofstream(path, std::ios::binary) << to_json(options, command);
    std::vector<std::string> again = {"--config", path};
    if (!options.run.empty()) again.push_back(options.run);
    again.insert(again.end(), options.files.begin(), options.files.end());
    if (to_json(parse_options(command, again), command) != to_json(options, command)) std::abort();
  } catch (const lamina::Error&) {  // refused
  }
  return 0;
}

// SPDX-License-Identifier: MIT
// libFuzzer target: the command line of lamina-gpt, a line of the input for each argument, the
// first for the command; of a line "{...}" a --config file is made. Built and run by .ci/fuzz.
#include "examples/gpt/options.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
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
  Command command{};
  Options options;
  try {
    command = parse_command(word);
    std::vector<std::string> arguments;
    while (std::getline(lines, word)) {
      if (word.find('/') != std::string::npos) return 0;  // a path out of the folder, as /dev/zero
      if (word.starts_with("{")) {
        std::ofstream(path, std::ios::binary) << word;
        arguments.insert(arguments.end(), {"--config", path});
      } else {
        arguments.push_back(word);
      }
    }
    options = parse_options(command, arguments);
  } catch (const lamina::Error&) {  // refused
    return 0;
  }
  if (options.help || (command != Command::train && command != Command::profile)) return 0;
  // What was taken can be said again, by a --config file.
  const nlohmann::json taken = to_json(options, command);
  const std::string text = taken.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (nlohmann::json::parse(text) != taken) return 0;  // a name that is not UTF-8
  std::ofstream(path, std::ios::binary) << text;
  const std::vector<std::string> again = {"--config", path};
  if (to_json(parse_options(command, again), command) != taken) std::abort();
  return 0;
}

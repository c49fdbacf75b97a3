// SPDX-License-Identifier: MIT
#include "examples/gpt/cache.h"

#include "core/error.h"
#include "core/text.h"
#include "examples/gpt/log.h"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <system_error>
#include <unistd.h>

namespace lamina::gpt {

namespace fs = std::filesystem;

fs::path cache_directory() {
  const char* const cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache != '\0') return fs::path(cache) / "lamina";
  const char* const home = std::getenv("HOME");
  return home != nullptr && *home != '\0' ? fs::path(home) / ".cache" / "lamina" : fs::path();
}

std::string text_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  return text.str();
}

void replace_file(const fs::path& path, const std::string& text) {
  std::error_code error;
  if (path.has_parent_path()) fs::create_directories(path.parent_path(), error);
  const fs::path draft = cat(path.string(), ".", getpid());
  try {
    write_file(draft, text);
    fs::rename(draft, path, error);
    if (error) throw Error(cat(path.string(), " cannot be written: ", error.message()));
  } catch (const Error&) {
    fs::remove(draft, error);
    throw;
  }
}

}  // namespace lamina::gpt

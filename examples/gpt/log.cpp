// SPDX-License-Identifier: MIT
#include "examples/gpt/log.h"

#include "core/error.h"
#include "core/text.h"

#include <nlohmann/json.hpp>

namespace lamina::gpt {

RunLog::RunLog(const std::filesystem::path& path) : path_(path), file_(path, std::ios::app) {
  if (!file_) throw Error(cat("log: ", path.string(), " cannot be written"));
}

void RunLog::write(const nlohmann::json& record) {
  file_ << record.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
  if (!file_) throw Error(cat("log: writing ", path_.string(), " failed (is the disk full?)"));
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text << std::flush;
  if (!file) throw Error(cat("run: writing ", path.string(), " failed (is the disk full?)"));
}

}  // namespace lamina::gpt

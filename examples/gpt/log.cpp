// SPDX-License-Identifier: MIT
#include "examples/gpt/log.h"

#include "core/error.h"
#include "core/text.h"

#include <cerrno>
#include <nlohmann/json.hpp>
#include <system_error>

namespace lamina::gpt {

namespace {

std::string why() {
  return std::generic_category().message(errno);
}

}  // namespace

RunLog::RunLog(const std::filesystem::path& path) : path_(path), file_(path, std::ios::app) {
  if (!file_) throw Error(cat("log: ", path.string(), " cannot be written: ", why()));
}

void RunLog::write(const nlohmann::json& record) {
  file_ << record.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
  if (!file_) throw Error(cat("log: writing ", path_.string(), " failed: ", why()));
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();  // a network file system tells here that the content did not arrive
  if (!file) throw Error(cat("run: writing ", path.string(), " failed: ", why()));
}

}  // namespace lamina::gpt

// SPDX-License-Identifier: MIT
#include "examples/gpt/run_directory.h"

#include "core/text.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <fcntl.h>
#include <fstream>
#include <string_view>
#include <sys/file.h>
#include <system_error>
#include <unistd.h>

namespace lamina::gpt {

namespace {

namespace fs = std::filesystem;

constexpr const char* kLock = "run.lock";  // made first, so that its name says what the rest is

fs::path make_directory(const Options& options) {
  const fs::path path = options.out.empty() ? "runs" : options.out;
  std::error_code error;
  fs::create_directories(path, error);
  for (int i = 1; !error && options.out.empty(); ++i) {
    const fs::path numbered = path / cat(options.preset, "-", i);
    if (fs::create_directory(numbered, error)) return numbered;
  }
  if (error) {
    throw Error(cat("--out ", path.string(), " cannot be made: ", error.message(),
                    ", expected a place for a directory"));
  }
  return path;
}

std::string host_name() {
  std::array<char, HOST_NAME_MAX + 1> host{};
  return gethostname(host.data(), host.size() - 1) == 0 ? host.data() : "an unknown host";
}

bool is_log(std::string_view name) {
  constexpr std::string_view kNames[] = {"log.jsonl", "profile.jsonl", "steps.csv", "evals.csv"};
  return name.starts_with("events.out.tfevents.") ||
         std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

}  // namespace

bool holds_run(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path / kLock, error);
}

void expect_out(const Options& options) {
  std::error_code error;
  const fs::path path = options.out;
  const bool is_there = !options.out.empty() && fs::exists(path, error);
  const bool is_new = !is_there || (fs::is_directory(path, error) && fs::is_empty(path, error));
  const bool is_step = options.resume != "auto" && options.resume != "never";
  if (is_new && is_step) {
    throw UsageError(cat("--resume is ", options.resume, ", but --out ", options.out,
                         " holds no run, expected one with a checkpoint of that step"));
  }
  if (is_new) return;
  if (!holds_run(path)) {
    throw UsageError(cat("--out ", options.out, " exists and is no run of lamina-gpt train, ",
                         "expected a run, or a new or empty directory"));
  }
  if (options.resume == "never") {
    throw UsageError(cat("--out ", options.out, " holds a run, expected a new or empty directory ",
                         "(--resume is never)"));
  }
}

RunDirectory::RunDirectory(const Options& options) : path_(make_directory(options)) {
  try {
    lock();
  } catch (const Error&) {
    if (descriptor_ >= 0) close(descriptor_);
    throw;
  }
}

void RunDirectory::lock() {
  const fs::path path = path_ / kLock;
  descriptor_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) {
    throw Error(cat("run: ", path.string(),
                    " cannot be written: ", std::generic_category().message(errno)));
  }
  if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) {
      throw Error(cat("run: ", path.string(),
                      " cannot be locked: ", std::generic_category().message(errno)));
    }
    std::string holder;
    std::getline(std::ifstream(path), holder);
    throw Error(cat("--out ", path_.string(), " is being trained by ",
                    holder.empty() ? "another process" : holder,
                    ", expected one trainer at a time; wait for it, or give another --out"));
  }
  const std::string holder = cat("process ", getpid(), " on ", host_name(), "\n");
  if (ftruncate(descriptor_, 0) != 0 ||
      write(descriptor_, holder.data(), holder.size()) != static_cast<ssize_t>(holder.size())) {
    throw Error(
        cat("run: writing ", path.string(), " failed: ", std::generic_category().message(errno)));
  }
  SystemDisk().sync(path_);
}

/// The file stays: another process may be about to lock it.
RunDirectory::~RunDirectory() {
  if (descriptor_ >= 0) close(descriptor_);
}

void write_synced(Disk& disk, const fs::path& path, const std::string& text) {
  const fs::path draft = path.string() + ".tmp";
  const std::string_view pieces[] = {text};
  disk.write(draft, pieces);
  disk.sync(draft);
  disk.rename(draft, path);
  disk.sync(path.parent_path());
}

LogSizes log_sizes(const fs::path& run) {
  LogSizes sizes;
  for (const fs::directory_entry& entry : fs::directory_iterator(run)) {
    const std::string name = entry.path().filename().string();
    if (is_log(name)) sizes[name] = entry.file_size();
  }
  return sizes;
}

std::vector<std::string> cut_logs(const fs::path& run, const LogSizes& sizes) {
  std::vector<std::string> missing;
  const LogSizes now = log_sizes(run);
  for (const auto& [name, size] : now) {
    const auto then = sizes.find(name);
    if (then == sizes.end()) {
      fs::remove(run / name);
    } else if (size > then->second) {
      fs::resize_file(run / name, then->second);
    }
  }
  for (const auto& [name, size] : sizes) {
    const auto found = now.find(name);
    const std::uintmax_t is = found == now.end() ? 0 : found->second;
    if (is < size) {
      missing.push_back(cat((run / name).string(), " has ", is, " bytes, expected at least ", size,
                            " (what was logged up to the checkpoint)"));
    }
  }
  return missing;
}

}  // namespace lamina::gpt

// SPDX-License-Identifier: MIT
#include "examples/gpt/checkpoint_store.h"

#include "core/error.h"
#include "core/text.h"
#include "examples/gpt/crc32c.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <iomanip>
#include <sstream>
#include <system_error>
#include <utility>

namespace lamina::gpt {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kManifest = "MANIFEST", kTemporary = ".tmp-", kStep = "step_";
constexpr std::size_t kChecksumLine = 9;  // eight digits and the end of the line

std::string name_of(std::int64_t step) {
  std::ostringstream name;
  name << kStep << std::setfill('0') << std::setw(8) << step;
  return name.str();
}

/// Nothing when it is not the name of a step's directory.
std::optional<std::int64_t> step_of(std::string_view name) {
  std::int64_t step = 0;
  if (!name.starts_with(kStep)) return std::nullopt;
  const auto [end, error] =
      std::from_chars(name.data() + kStep.size(), name.data() + name.size(), step);
  if (error != std::errc() || name_of(step) != name) return std::nullopt;
  return step;
}

std::string hex(std::uint32_t checksum) {
  std::ostringstream text;
  text << std::hex << std::setfill('0') << std::setw(8) << checksum;
  return text.str();
}

FileRecord record_of(const CheckpointFile& file) {
  Crc32c crc;
  FileRecord record{.name = file.name, .checksum = "", .bytes = 0};
  for (const std::string_view piece : file.pieces) {
    crc.add(piece);
    record.bytes += piece.size();
  }
  record.checksum = hex(crc.value());
  return record;
}

constexpr std::string_view kFirstLine = "lamina-gpt checkpoint of step ";

std::string first_line(std::int64_t step) {
  return cat(kFirstLine, step, "\n");
}

/// A line for each file, then the checksum of all lines.
std::string manifest_of(std::int64_t step, std::span<const CheckpointFile> files) {
  std::string text = first_line(step);
  for (const CheckpointFile& file : files) {
    const FileRecord record = record_of(file);
    text += cat(record.checksum, " ", record.bytes, " ", record.name, "\n");
  }
  return cat(text, hex(crc32c(text)), "\n");
}

}  // namespace

std::optional<std::int64_t> manifest_step(std::string_view text) {
  std::int64_t step = 0;
  if (!text.starts_with(kFirstLine)) return std::nullopt;
  const auto [end, error] =
      std::from_chars(text.data() + kFirstLine.size(), text.data() + text.size(), step);
  return error == std::errc() ? std::optional(step) : std::nullopt;
}

std::optional<std::vector<FileRecord>> parse_manifest(std::int64_t step, std::string_view text) {
  if (text.size() < kChecksumLine) return std::nullopt;
  const std::string_view lines = text.substr(0, text.size() - kChecksumLine);
  if (text.substr(lines.size()) != cat(hex(crc32c(lines)), "\n")) return std::nullopt;
  if (!lines.starts_with(first_line(step))) return std::nullopt;
  std::istringstream rest(std::string(lines.substr(first_line(step).size())));
  std::vector<FileRecord> files;
  for (FileRecord file; rest >> file.checksum >> file.bytes >> file.name;)
    files.push_back(file);
  return files;
}

namespace {

std::string text_of(Disk& disk, const fs::path& path) {
  std::string text;
  disk.read(path, [&](std::string_view bytes) { text += bytes; });
  return text;
}

/// `step`: the only one that MANIFEST may name; nothing: whichever it names.
std::string fault_in(Disk& disk, const fs::path& directory, std::optional<std::int64_t> step,
                     std::span<const std::string_view> only) {
  try {
    const std::string manifest = text_of(disk, directory / kManifest);
    if (!step) step = manifest_step(manifest);
    const auto records = step ? parse_manifest(*step, manifest) : std::nullopt;
    if (!records) return cat((directory / kManifest).string(), " is damaged");
    for (const auto& [name, checksum, expected_bytes] : *records) {
      if (!only.empty() && std::find(only.begin(), only.end(), name) == only.end()) continue;
      Crc32c crc;
      std::uint64_t size = 0;
      disk.read(directory / name, [&](std::string_view bytes) {
        crc.add(bytes);
        size += bytes.size();
      });
      if (size != expected_bytes) {
        return cat((directory / name).string(), " has ", size, " bytes, expected ", expected_bytes);
      }
      if (hex(crc.value()) != checksum) {
        return cat((directory / name).string(), " has the checksum ", hex(crc.value()),
                   ", expected ", checksum);
      }
    }
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

std::string fault_of_copy(Disk& disk, const fs::path& directory,
                          std::span<const std::string_view> only) {
  return fault_in(disk, directory, std::nullopt, only);
}

CheckpointStore::CheckpointStore(Disk& disk, fs::path directory)
    : disk_(&disk), directory_(std::move(directory)) {}

fs::path CheckpointStore::path_of(std::int64_t step) const {
  return directory_ / name_of(step);
}

std::vector<std::int64_t> CheckpointStore::steps() const {
  std::vector<std::int64_t> steps;
  for (const std::string& name : disk_->list(directory_))
    if (const auto step = step_of(name)) steps.push_back(*step);
  std::sort(steps.begin(), steps.end(), std::greater<>());
  return steps;
}

std::optional<std::vector<FileRecord>> CheckpointStore::files(std::int64_t step) const {
  return parse_manifest(step, text_of(*disk_, path_of(step) / kManifest));
}

std::string CheckpointStore::fault(std::int64_t step,
                                   std::span<const std::string_view> only) const {
  return fault_in(*disk_, path_of(step), step, only);
}

std::optional<std::int64_t> CheckpointStore::newest_intact(
    const std::function<void(const std::string&)>& report) const {
  for (const std::int64_t step : steps()) {
    const std::string what = fault(step);
    if (what.empty()) return step;
    report(what);
  }
  return std::nullopt;
}

void CheckpointStore::commit(std::int64_t step, std::span<const CheckpointFile> files) const {
  disk_->make_directory(directory_);
  disk_->sync(directory_.parent_path());
  const fs::path draft = directory_ / cat(kTemporary, name_of(step));
  try {
    remove_all(draft);  // of a commit that failed and could not tidy up
    disk_->make_directory(draft);
    for (const CheckpointFile& file : files)
      write_synced(draft / file.name, file.pieces);
    const std::string manifest = manifest_of(step, files);
    const std::string_view pieces[] = {manifest};
    write_synced(draft / kManifest, pieces);
    disk_->sync(draft);
    discard(step);
    disk_->rename(draft, path_of(step));
    disk_->sync(directory_);
  } catch (const Error&) {
    try {
      remove_all(draft);
    } catch (const Error&) {
      // The first error counts.
    }
    throw;
  }
  point("latest", step);
}

void CheckpointStore::point(std::string_view name, std::int64_t step) const {
  const std::string line = name_of(step) + "\n";
  const std::string_view pieces[] = {line};
  const fs::path draft = directory_ / cat(kTemporary, name);
  write_synced(draft, pieces);
  disk_->rename(draft, directory_ / name);
  disk_->sync(directory_);
}

std::string CheckpointStore::named_by(std::string_view name) const {
  try {
    return text_of(*disk_, directory_ / name);
  } catch (const Error&) {
    return "";
  }
}

std::optional<std::int64_t> CheckpointStore::target(std::string_view name) const {
  const std::string line = named_by(name);
  const std::vector<std::int64_t> all = steps();
  const auto at = std::find_if(all.begin(), all.end(),
                               [&](std::int64_t step) { return line == name_of(step) + "\n"; });
  return at == all.end() ? std::nullopt : std::optional(*at);
}

std::string CheckpointStore::dangling(std::string_view name) const {
  std::string line = named_by(name);
  if (line.empty() || target(name)) return "";
  if (line.back() == '\n') line.pop_back();
  return cat((directory_ / name).string(), " names ", line, ", which is not there");
}

void CheckpointStore::prune(const Retention& keep) const {
  const auto latest = target("latest"), best = target("best");
  if (!latest) return;
  std::int64_t rank = 0;
  for (const std::int64_t step : steps()) {
    if (step > *latest) continue;
    const bool is_new = rank++ < keep.newest || step == *latest;
    const bool is_kept = keep.every > 0 && step % keep.every == 0;
    if (!is_new && !is_kept && step != best) discard(step);
  }
}

void CheckpointStore::go_back_to(std::int64_t step) const {
  point("latest", step);
  for (const std::int64_t other : steps())
    if (other > step) discard(other);
  disk_->sync(directory_);
}

void CheckpointStore::clean() const {
  for (const std::string& name : disk_->list(directory_))
    if (name.starts_with(kTemporary)) remove_all(directory_ / name);
}

/// Under another name first: a half of it must not look like a checkpoint.
void CheckpointStore::discard(std::int64_t step) const {
  const std::vector<std::int64_t> all = steps();
  if (std::find(all.begin(), all.end(), step) == all.end()) return;
  const fs::path away = directory_ / cat(kTemporary, "old-", name_of(step));
  remove_all(away);
  disk_->rename(path_of(step), away);
  remove_all(away);
}

void CheckpointStore::remove_all(const fs::path& path) const {
  for (const std::string& name : disk_->list(path))
    remove_all(path / name);
  disk_->remove(path);
}

void CheckpointStore::write_synced(const fs::path& path,
                                   std::span<const std::string_view> pieces) const {
  disk_->write(path, pieces);
  disk_->sync(path);
}

}  // namespace lamina::gpt

// SPDX-License-Identifier: MIT
#include "examples/gpt/event_file.h"

#include "core/error.h"
#include "core/text.h"
#include "examples/gpt/crc32c.h"

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <climits>
#include <string_view>
#include <system_error>
#include <unistd.h>

namespace lamina::gpt {
namespace {

// ---- checksums

/// As the records hold it, so that a checksum of a checksum is no special case.
std::uint32_t masked_crc(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xa282ead8U;
}

// ---- protocol buffers: https://protobuf.dev/programming-guides/encoding

void put_fixed(std::string& to, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i)
    to += static_cast<char>(value >> 8 * i);
}

void put_varint(std::string& to, std::uint64_t value) {
  for (; value > 0x7f; value >>= 7)
    to += static_cast<char>(value | 0x80);
  to += static_cast<char>(value);
}

enum Wire : std::uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void put_key(std::string& to, int field, Wire wire) {
  put_varint(to, static_cast<std::uint64_t>(field) << 3 | wire);
}

void put_bytes(std::string& to, int field, std::string_view bytes) {
  put_key(to, field, kBytes);
  put_varint(to, bytes.size());
  to += bytes;
}

std::string event(double wall_seconds) {
  std::string to;
  put_key(to, 1, kFixed64);
  put_fixed(to, std::bit_cast<std::uint64_t>(wall_seconds), 8);
  return to;
}

constexpr std::size_t kLengthBytes = 8, kChecksumBytes = 4,
                      kHeadBytes = kLengthBytes + kChecksumBytes;

std::uint64_t fixed_at(std::string_view bytes, std::size_t at, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = size; i-- > 0;)
    value = value << 8U | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

bool is_checked(std::string_view data, std::string_view checksum) {
  return fixed_at(checksum, 0, kChecksumBytes) == masked_crc(data);
}

std::string framed(std::string_view data) {
  std::string length, record;
  put_fixed(length, data.size(), 8);
  record = length;
  put_fixed(record, masked_crc(length), 4);
  record += data;
  put_fixed(record, masked_crc(data), 4);
  return record;
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::filesystem::path file_in(const std::filesystem::path& directory) {
  constexpr std::string_view kName = "events.out.tfevents.";
  std::error_code error;  // where nothing can be read, writing says why
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().filename().string().starts_with(kName)) return it->path();
  }
  std::array<char, HOST_NAME_MAX + 1> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host = {"host"};
  return directory / cat(kName, static_cast<std::int64_t>(now()), ".", host.data(), ".", getpid());
}

}  // namespace

std::string event_record(double wall_seconds, std::int64_t step, std::span<const Scalar> scalars) {
  std::string summary;
  for (const Scalar& scalar : scalars) {
    std::string value;
    put_bytes(value, 1, scalar.tag);
    put_key(value, 2, kFixed32);
    put_fixed(value, std::bit_cast<std::uint32_t>(static_cast<float>(scalar.value)), 4);
    put_bytes(summary, 1, value);
  }
  std::string data = event(wall_seconds);
  put_key(data, 2, kVarint);
  put_varint(data, static_cast<std::uint64_t>(step));
  put_bytes(data, 5, summary);
  return framed(data);
}

bool begins_with_record(std::string_view bytes) {
  return bytes.size() >= kHeadBytes &&
         is_checked(bytes.substr(0, kLengthBytes), bytes.substr(kLengthBytes));
}

EventRecords scan_records(std::string_view bytes, bool with_data) {
  EventRecords records;
  const std::size_t size = bytes.size();
  while (!bytes.empty()) {
    const auto fail = [&](std::string_view what) {
      records.fault = cat("record ", records.count, " (byte ", size - bytes.size(),
                          "): the checksum of its ", what, " is wrong");
      records.cut_off = 0;
    };
    records.cut_off = bytes.size();
    if (bytes.size() < kHeadBytes) return records;
    if (!begins_with_record(bytes)) {
      fail("length");
      return records;
    }
    const std::uint64_t length = fixed_at(bytes, 0, kLengthBytes);
    if (bytes.size() - kHeadBytes < kChecksumBytes ||
        length > bytes.size() - kHeadBytes - kChecksumBytes) {
      return records;
    }
    const std::size_t end = kHeadBytes + length;
    if (with_data && !is_checked(bytes.substr(kHeadBytes, length), bytes.substr(end))) {
      fail("data");
      return records;
    }
    bytes.remove_prefix(end + kChecksumBytes);
    ++records.count;
  }
  records.cut_off = 0;
  return records;
}

EventFile::EventFile(const std::filesystem::path& directory)
    : path_(file_in(directory)), file_(path_, std::ios::binary | std::ios::app) {
  if (!file_)
    throw Error(cat("log: ", path_.string(),
                    " cannot be written: ", std::generic_category().message(errno)));
  if (std::filesystem::file_size(path_) > 0) return;
  std::string version = event(now());
  put_bytes(version, 3, "brain.Event:2");
  append(framed(version));
}

void EventFile::write(std::int64_t step, std::span<const Scalar> scalars) {
  append(event_record(now(), step, scalars));
}

void EventFile::append(const std::string& record) {
  file_ << record << std::flush;
  if (!file_)
    throw Error(
        cat("log: writing ", path_.string(), " failed: ", std::generic_category().message(errno)));
}

}  // namespace lamina::gpt

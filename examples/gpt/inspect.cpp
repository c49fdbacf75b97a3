// SPDX-License-Identifier: MIT
#include "examples/gpt/inspect.h"

#include "core/json.h"
#include "core/text.h"
#include "examples/gpt/inspect_formats.h"

#include <algorithm>
#include <exception>
#include <system_error>
#include <utility>

namespace lamina::gpt {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostJson = std::size_t{256} << 20U, kMostText = 160;  // bytes

/// One line without control characters, which could be commands to a terminal.
std::string printable(std::string text) {
  if (text.size() > kMostText) {
    std::size_t end = kMostText;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0U) == 0x80U)  // in a character
      --end;
    text = text.substr(0, end) + "...";
  }
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20U || c == 0x7fU; }, ' ');
  return text;
}

std::string dump(const Document& value) {
  return value.dump(-1, ' ', false, Document::error_handler_t::replace);
}

std::string value_text(const Document& value) {
  if (value.is_null()) return "-";
  if (value.is_array() && value.empty()) return "none";
  if (value.is_number_float()) return cat(value.get<double>());
  return printable(value.is_string() ? value.get<std::string>() : dump(value));
}

/// With what makes a large number easier to read.
std::string member_text(const std::string& key, const Document& value) {
  std::string text = value_text(value);
  if (key == "bytes") text += cat(" (", bytes_text(value.get<std::size_t>()), ")");
  if (key == "parameters") text += cat(" (", count_text(value.get<double>()), ")");
  return text;
}

std::string padded(std::string text, std::size_t width, bool to_right = false) {
  return text.insert(to_right ? 0 : text.size(), width - std::min(width, text.size()), ' ');
}

bool is_table(const Document& value) {
  return value.is_array() && !value.empty() && value.front().is_object();
}

/// A row for each object, a column for each of the first one's members.
void print_table(std::ostream& out, const Document& rows, const std::string& indent) {
  struct Column {
    std::string key;
    std::size_t width;
    bool is_number;
  };

  std::vector<Column> columns;
  for (const auto& [key, ignored] : rows.front().items()) {
    Column column{.key = key, .width = key.size(), .is_number = true};
    for (const Document& row : rows) {
      column.width = std::max(column.width, value_text(row.at(key)).size());
      column.is_number = column.is_number && (row.at(key).is_number() || row.at(key).is_null());
    }
    columns.push_back(column);
  }
  const auto print_row = [&](const auto& text_of) {
    out << indent;
    for (const Column& column : columns) {
      const bool is_last = &column == &columns.back();
      const std::size_t width = is_last && !column.is_number ? 0 : column.width;
      out << padded(text_of(column.key), width, column.is_number) << (is_last ? "\n" : "  ");
    }
  };
  print_row([](const std::string& key) { return key; });
  for (const Document& row : rows)
    print_row([&](const std::string& key) { return value_text(row.at(key)); });
}

void print_object(std::ostream& out, const Document& object, const std::string& indent) {
  std::size_t width = 0;
  for (const auto& [key, value] : object.items())
    if (!value.is_object() && !is_table(value)) width = std::max(width, printable(key).size());
  for (const auto& [key, value] : object.items()) {
    out << indent;
    if (value.is_object() || is_table(value)) {
      out << printable(key) << '\n';
      if (value.is_object()) {
        print_object(out, value, indent + "  ");
      } else {
        print_table(out, value, indent + "  ");
      }
    } else {
      out << padded(printable(key), width) << "  " << member_text(key, value) << '\n';
    }
  }
}

/// Throws Error that lists the formats.
Document document_of(const fs::path& path, bool check) {
  const Subject subject(path, check);
  const auto formats = subject.is_directory() ? directory_formats() : file_formats();
  const auto format = std::find_if(formats.begin(), formats.end(), [&](const Format& candidate) {
    return candidate.matches(subject);
  });
  if (format == formats.end()) {
    std::string names;
    for (const Format& known : formats)
      names += cat(names.empty() ? "" : ", ", known.name);
    throw Error(cat("inspect: ", path.string(), " is a ",
                    subject.is_directory() ? "directory" : "file",
                    " of something else, expected one of: ", names));
  }
  Document document = {{"file", path.string()}, {"kind", format->name}};
  if (!subject.is_directory()) document["bytes"] = subject.bytes().size();
  document.update(format->describe(subject));
  document["faults"] = subject.faults();
  return document;
}

}  // namespace

Subject::Subject(fs::path path, bool check) : path_(std::move(path)), check_(check) {
  std::error_code ignored;
  if (fs::is_directory(path_, ignored)) {
    path_ = fs::canonical(path_);
    return;
  }
  file_.emplace(path_.string(), "inspect");
  if (file_->bytes().empty())
    throw Error(
        cat("inspect: ", path_.string(), " is empty, expected a file with something in it"));
}

const nlohmann::json& Subject::json() const {
  if (json_) return *json_;
  const std::size_t begin = bytes().find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos || bytes()[begin] != '{') return json_.emplace();
  if (bytes().size() > kMostJson) {
    throw Error(cat("inspect: ", path_.string(), " has ", bytes().size(),
                    " bytes, expected at most ", kMostJson, " of a JSON file"));
  }
  return json_.emplace(parse_json(bytes(), cat("inspect: ", path_.string())));
}

int inspect(const Options& options, Console& console) {
  if (options.files.empty())
    throw UsageError("inspect: no file given, expected lamina-gpt inspect FILE...");
  int status = 0;
  bool is_first = true;
  for (const std::string& file : options.files) {
    Document document;
    try {
      document = document_of(file, options.check);
    } catch (const std::exception& error) {
      console.errors << "lamina-gpt: error: " << error.what() << std::endl;
      status = 1;
      continue;
    }
    if (!document.at("faults").empty()) status = 1;
    if (options.json) {
      console.out << dump(document) << '\n';
    } else {
      if (!std::exchange(is_first, false)) console.out << '\n';
      print_object(console.out, document, "");
    }
  }
  return status;
}

}  // namespace lamina::gpt

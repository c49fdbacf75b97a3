// SPDX-License-Identifier: MIT
#include "examples/gpt/meta_pickle.h"

#include "core/error.h"
#include "core/text.h"
#include "examples/gpt/utf8.h"

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

namespace lamina::data {

namespace {

enum Operation : unsigned char {
  kProto = 0x80,
  kFrame = 0x95,
  kMemoize = 0x94,
  kBinPut = 'q',
  kLongBinPut = 'r',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kEmptyDict = '}',
  kMark = '(',
  kSetItem = 's',
  kSetItems = 'u',
  kInt1 = 'K',
  kInt2 = 'M',
  kInt4 = 'J',
  kShortText = 0x8C,
  kText = 'X',
  kStop = '.'
};

struct Mark {};

struct Table {  // by its place in Reader::tables_: a copy on the stack is the same one
  std::size_t index;
};

using Value = std::variant<Mark, std::int64_t, std::string_view, Table>;
using Entries = std::vector<std::pair<Value, Value>>;

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  /// The entries of the dictionary that the pickle is.
  const Entries& read() {
    while (!step()) {
    }
    if (stack_.size() != 1) fail("leaves no value, expected one");
    return entries(stack_.back());
  }

  const Entries& entries(const Value& value) const {
    const auto* const table = std::get_if<Table>(&value);
    if (table == nullptr) fail("has something else where a dictionary is expected");
    return tables_[table->index];
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(cat("meta.pkl: byte ", at_, ": ", what));
  }

 private:
  std::string_view take(std::size_t count) {
    if (bytes_.size() - at_ < count) fail("the file ends, expected more");
    const std::string_view taken = bytes_.substr(at_, count);
    at_ += count;
    return taken;
  }

  /// Little-endian.
  std::uint64_t number(std::size_t size) {
    std::uint64_t value = 0;
    const std::string_view bytes = take(size);
    for (std::size_t i = 0; i < size; ++i)
      value |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
    return value;
  }

  Value pop() {
    if (stack_.empty() || std::holds_alternative<Mark>(stack_.back())) {
      fail("needs a value that is not there");
    }
    Value value = std::move(stack_.back());
    stack_.pop_back();
    return value;
  }

  const Value& top() const {
    if (stack_.empty()) fail("needs a value that is not there");
    return stack_.back();
  }

  void remember(std::uint64_t key) { memo_.insert_or_assign(key, top()); }

  void recall(std::uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) fail(cat("recalls value ", key, ", which nothing was stored as"));
    stack_.push_back(found->second);
  }

  void set(Entries entries) {
    if (stack_.empty() || !std::holds_alternative<Table>(stack_.back())) {
      fail("puts entries into something that is no dictionary");
    }
    Entries& all = tables_[std::get<Table>(stack_.back()).index];
    all.insert(all.end(), entries.begin(), entries.end());
  }

  void set_items() {
    Entries entries;
    while (!stack_.empty() && !std::holds_alternative<Mark>(stack_.back())) {
      Value value = pop();
      Value key = pop();
      entries.emplace_back(std::move(key), std::move(value));
    }
    if (stack_.empty()) fail("needs a mark that is not there");
    stack_.pop_back();
    set({entries.rbegin(), entries.rend()});
  }

  /// One operation. True at the end.
  bool step() {
    const auto operation = static_cast<unsigned char>(take(1).front());
    switch (operation) {
      case kProto:
        take(1);
        break;
      case kFrame:
        take(8);
        break;
      case kMemoize:
        remember(memo_.size());
        break;
      case kBinPut:
        remember(number(1));
        break;
      case kLongBinPut:
        remember(number(4));
        break;
      case kBinGet:
        recall(number(1));
        break;
      case kLongBinGet:
        recall(number(4));
        break;
      case kEmptyDict:
        stack_.emplace_back(Table{tables_.size()});
        tables_.emplace_back();
        break;
      case kMark:
        stack_.emplace_back(Mark{});
        break;
      case kSetItem: {
        Value value = pop();
        Value key = pop();
        set({{std::move(key), std::move(value)}});
        break;
      }
      case kSetItems:
        set_items();
        break;
      case kInt1:
        stack_.emplace_back(static_cast<std::int64_t>(number(1)));
        break;
      case kInt2:
        stack_.emplace_back(static_cast<std::int64_t>(number(2)));
        break;
      case kInt4:
        stack_.emplace_back(std::int64_t{static_cast<std::int32_t>(number(4))});
        break;
      case kShortText:
        stack_.emplace_back(take(number(1)));
        break;
      case kText:
        stack_.emplace_back(take(number(4)));
        break;
      case kStop:
        return true;
      default:
        fail(cat("has operation ", int{operation}, ", expected one of those that make ",
                 "dictionaries, integers and texts (no other is read)"));
    }
    return false;
  }

  std::string_view bytes_;
  std::size_t at_ = 0;
  std::vector<Value> stack_;
  std::map<std::uint64_t, Value> memo_;
  std::vector<Entries> tables_;
};

void append_number(std::string& to, std::uint64_t value, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i)
    to += static_cast<char>(value >> (8 * i));
}

void append_text(std::string& to, std::string_view text) {
  to += static_cast<char>(kText);
  append_number(to, text.size(), 4);
  to += text;
}

void append_integer(std::string& to, std::uint64_t value) {
  to += static_cast<char>(kInt4);
  append_number(to, value, 4);
}

}  // namespace

Vocabulary vocabulary_from_meta(std::string_view pickle) {
  Reader reader(pickle);
  const Entries* characters = nullptr;
  for (const auto& [key, value] : reader.read()) {
    const auto* const name = std::get_if<std::string_view>(&key);
    if (name != nullptr && *name == "itos") characters = &reader.entries(value);
  }
  if (characters == nullptr) reader.fail("there is no \"itos\", expected it (characters by id)");
  std::vector<std::uint32_t> symbols;
  for (const auto& [key, value] : *characters) {
    const auto* const id = std::get_if<std::int64_t>(&key);
    const auto* const text = std::get_if<std::string_view>(&value);
    const bool is_text = text != nullptr && !text->empty();
    const Utf8Character character = is_text ? first_character(*text) : Utf8Character{};
    if (id == nullptr || *id != static_cast<std::int64_t>(symbols.size()) || character.bytes == 0 ||
        character.bytes != text->size()) {
      reader.fail(cat("entry ", symbols.size(), " of \"itos\" is something else, expected the id ",
                      symbols.size(), " and its character"));
    }
    symbols.push_back(static_cast<std::uint32_t>(character.symbol));
  }
  return Vocabulary::from_json({{"level", "character"}, {"symbols", symbols}});
}

std::string meta_pickle(const Vocabulary& vocabulary) {
  const auto symbols = vocabulary.to_json().at("symbols").get<std::vector<std::uint32_t>>();
  std::string pickle = {static_cast<char>(kProto), 2, kEmptyDict, kMark};
  append_text(pickle, "vocab_size");
  append_integer(pickle, symbols.size());
  for (const std::string_view name : {"itos", "stoi"}) {
    append_text(pickle, name);
    pickle += {kEmptyDict, kMark};
    for (std::size_t id = 0; id < symbols.size(); ++id) {
      std::string character;
      append_utf8(symbols[id], character);
      if (name == "stoi") append_text(pickle, character);
      append_integer(pickle, id);
      if (name == "itos") append_text(pickle, character);
    }
    pickle += kSetItems;
  }
  pickle += {kSetItems, kStop};
  return pickle;
}

}  // namespace lamina::data

// SPDX-License-Identifier: MIT
// Token ids of files, for bpe_ids.py, which compares them with other programs.
// Usage: token_ids TOKENIZER < paths of files, one per line. Writes a line for each: its ids, after
// they have been turned back into the same bytes, or "error: ...".
#include "core/error.h"
#include "examples/gpt/tokenizer_file.h"

#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: token_ids TOKENIZER < PATHS\n";
    return 2;
  }
  try {
    const auto vocabulary = lamina::data::read_tokenizer(argv[1]);
    for (std::string path; std::getline(std::cin, path);) {
      std::ifstream file(path, std::ios::binary);
      const std::string text{std::istreambuf_iterator<char>(file), {}};
      try {
        const std::vector<std::int32_t> ids = vocabulary.encode(text);
        if (vocabulary.decode(ids) != text) throw lamina::Error("decode gives another text");
        for (const std::int32_t id : ids)
          std::cout << id << ' ';
      } catch (const lamina::Error& error) {
        std::cout << "error: " << error.what();
      }
      std::cout << '\n';
    }
  } catch (const std::exception& error) {
    std::cerr << "token_ids: " << error.what() << '\n';
    return 1;
  }
  return 0;
}

// SPDX-License-Identifier: MIT
#include "examples/gpt/cli.h"
#include "examples/gpt/shell_text.h"

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <iostream>
#include <string>
#include <string_view>
#include <sys/ioctl.h>
#include <unistd.h>
#include <vector>

namespace {

/// Opens /dev/null as a standard stream that is closed: the next file would get its number, and
/// what is printed.
void open_standard_streams() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(descriptor, F_GETFD) == -1) (void)open("/dev/null", O_RDWR);
  }
}

/// Whether the terminal moves its cursor.
bool can_move_cursor() {
  const char* const term = std::getenv("TERM");
  return term != nullptr && *term != 0 && std::string_view(term) != "dumb";
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_streams();
  (void)std::signal(SIGPIPE, SIG_IGN);  // run_command reports the failed write
  (void)std::signal(SIGXFSZ, SIG_IGN);  // writing beyond ulimit -f fails as on a full disk
  const bool is_terminal = isatty(STDOUT_FILENO) == 1 && can_move_cursor();
  const char* const no_color = std::getenv("NO_COLOR");
  lamina::gpt::Console console{.out = std::cout,
                               .errors = std::cerr,
                               .is_terminal = is_terminal,
                               .use_color = is_terminal && (no_color == nullptr || *no_color == 0)};
  if (argc > 0) console.program = lamina::gpt::shell_quoted(argv[0]);
  winsize size{};
  if (is_terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1) {
    console.columns = size.ws_col;
  }
  return lamina::gpt::run_command(std::vector<std::string>(argv + 1, argv + argc), console);
}

#include "tests/sim/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

extern char** environ;

namespace escrow::testing {
namespace {

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& string : strings) pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::string Variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

Ended RunProgram(const std::vector<std::string>& command,
                 const std::vector<std::string>& environment, int seconds) {
  using std::chrono::steady_clock;
  std::vector<std::string> words = command;
  std::vector<std::string> variables = environment;
  // The first of a name is what counts.
  for (char** each = environ; *each != nullptr; ++each) {
    variables.emplace_back(*each);
  }
  const std::vector<char*> word_pointers = Pointers(words);
  const std::vector<char*> variable_pointers = Pointers(variables);

  Ended ended;
  int output[2];
  if (::pipe2(output, O_CLOEXEC) != 0) return ended;
  const ::pid_t child = ::fork();
  if (child == 0) {
    ::setpgid(0, 0);
    ::dup2(output[1], STDOUT_FILENO);
    ::dup2(output[1], STDERR_FILENO);
    ::execve(word_pointers[0], word_pointers.data(), variable_pointers.data());
    ::_exit(127);
  }
  ::close(output[1]);
  const auto deadline = steady_clock::now() + std::chrono::seconds(seconds);
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - steady_clock::now());
    pollfd polled = {.fd = output[0], .events = POLLIN, .revents = 0};
    if (left.count() <= 0 ||
        ::poll(&polled, 1, static_cast<int>(left.count())) <= 0) {
      ended.output += "\n(killed: it has taken too long)\n";
      ::kill(-child, SIGKILL);
      break;
    }
    char bytes[4096];
    const ::ssize_t size = ::read(output[0], bytes, sizeof(bytes));
    if (size <= 0) break;
    ended.output.append(bytes, static_cast<std::size_t>(size));
  }
  ::close(output[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  ended.status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return ended;
}

std::string Runfile(std::string_view path) {
  return Variable("TEST_SRCDIR") + "/" + Variable("TEST_WORKSPACE") + "/" +
         std::string(path);
}

std::string TemporaryFile(std::string_view name) {
  return Variable("TEST_TMPDIR") + "/" + std::string(name);
}

int Seeds(int otherwise) {
  const std::string value = Variable("ESCROW_SIM_SEEDS");
  return value.empty() ? otherwise : std::atoi(value.c_str());
}

}  // namespace escrow::testing

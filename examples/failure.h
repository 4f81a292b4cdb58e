#ifndef ESCROW_EXAMPLES_FAILURE_H_
#define ESCROW_EXAMPLES_FAILURE_H_

#include <cerrno>
#include <expected>
#include <string>
#include <system_error>
#include <utility>

// Errors as a user of a command line wants to read them: which file, and what
// was the matter with it.

namespace escrow::examples {

struct Failure {
  std::string what;  // mostly a file
  std::string why;   // with the call, if it was one that failed
};

template <typename T>
using Expected = std::expected<T, Failure>;

// `error` is one of escrow's, whose message names the call.
inline std::unexpected<Failure> Failed(std::string what,
                                       const std::error_code& error) {
  return std::unexpected(Failure{std::move(what), error.message()});
}

inline std::unexpected<Failure> Failed(std::string what, std::string why) {
  return std::unexpected(Failure{std::move(what), std::move(why)});
}

// For system calls outside of the ring; errno says why.
inline std::unexpected<Failure> FailedCall(std::string what, const char* call) {
  const int error = errno;
  return Failed(std::move(what), std::string(call) + ": " +
                                     std::generic_category().message(error));
}

}  // namespace escrow::examples

#endif  // ESCROW_EXAMPLES_FAILURE_H_

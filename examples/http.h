#ifndef ESCROW_EXAMPLES_HTTP_H_
#define ESCROW_EXAMPLES_HTTP_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

// As much of HTTP/1.1 as a server of files needs.

namespace escrow::examples {

struct Request {
  std::string method;  // GET, HEAD, ...
  std::string path;    // decoded; begins with a slash
  bool keep_alive;     // whether the connection is to stay open
};

// How long the head of a request is at the beginning of `received`, the empty
// line included; 0 when its end has not come yet.
std::size_t HeadLength(std::string_view received);

// Nothing if it is malformed.
std::optional<Request> ParseHead(std::string_view head);

// The head of a response whose body has `length` bytes.
std::string ResponseHead(int status, std::string_view type,
                         std::uint64_t length, bool keep_alive);

// The type of what is in a file, by the end of its name.
std::string_view TypeOf(std::string_view path);

}  // namespace escrow::examples

#endif  // ESCROW_EXAMPLES_HTTP_H_

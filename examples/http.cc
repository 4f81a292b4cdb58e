#include "escrow/examples/http.h"

#include <strings.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace escrow::examples {
namespace {

constexpr std::string_view kEndOfLine = "\r\n";
constexpr std::string_view kEndOfHead = "\r\n\r\n";

// Takes what is in front of `separator`, and that, off `rest`.
std::string_view Next(std::string_view& rest, std::string_view separator) {
  const std::size_t length = std::min(rest.find(separator), rest.size());
  const std::string_view part = rest.substr(0, length);
  rest.remove_prefix(std::min(rest.size(), length + separator.size()));
  return part;
}

std::optional<std::string> Decode(std::string_view path) {
  std::string decoded;
  for (std::size_t i = 0; i < path.size(); ++i) {
    if (path[i] != '%') {
      decoded += path[i];
      continue;
    }
    unsigned char byte = 0;
    const std::string_view digits = path.substr(i + 1, 2);
    const char* const end = digits.data() + digits.size();
    const auto [rest, error] = std::from_chars(digits.data(), end, byte, 16);
    // A zero would be the end of the name for the kernel.
    if (digits.size() != 2 || error != std::errc() || rest != end ||
        byte == 0) {
      return std::nullopt;
    }
    decoded += static_cast<char>(byte);
    i += 2;
  }
  return decoded;
}

bool SameWord(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

std::string_view ReasonFor(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 431:
      return "Request Header Fields Too Large";
    default:
      return "Internal Server Error";
  }
}

}  // namespace

std::size_t HeadLength(std::string_view received) {
  const std::size_t end = received.find(kEndOfHead);
  return end == std::string_view::npos ? 0 : end + kEndOfHead.size();
}

std::optional<Request> ParseHead(std::string_view head) {
  std::string_view line = Next(head, kEndOfLine);
  const std::string_view method = Next(line, " ");
  std::string_view target = Next(line, " ");
  if (method.empty() || target.empty() || target.front() != '/' ||
      (line != "HTTP/1.0" && line != "HTTP/1.1")) {
    return std::nullopt;
  }
  const auto path = Decode(Next(target, "?"));
  if (!path) return std::nullopt;
  Request request = {.method = std::string(method),
                     .path = *path,
                     .keep_alive = line == "HTTP/1.1"};
  while (!head.empty()) {
    std::string_view value = Next(head, kEndOfLine);
    if (!SameWord(Next(value, ":"), "Connection")) continue;
    if (SameWord(Trimmed(value), "close")) request.keep_alive = false;
    if (SameWord(Trimmed(value), "keep-alive")) request.keep_alive = true;
  }
  return request;
}

std::string ResponseHead(int status, std::string_view type,
                         std::uint64_t length, bool keep_alive) {
  std::string head = "HTTP/1.1 ";
  head += std::to_string(status);
  head += ' ';
  head += ReasonFor(status);
  head += "\r\nContent-Type: ";
  head += type;
  head += "\r\nContent-Length: ";
  head += std::to_string(length);
  head += keep_alive ? "\r\nConnection: keep-alive" : "\r\nConnection: close";
  head += kEndOfHead;
  return head;
}

std::string_view TypeOf(std::string_view path) {
  struct Type {
    std::string_view suffix;
    std::string_view name;
  };
  static constexpr Type kTypes[] = {
      {".html", "text/html; charset=utf-8"},
      {".txt", "text/plain; charset=utf-8"},
      {".css", "text/css"},
      {".js", "text/javascript"},
      {".json", "application/json"},
      {".svg", "image/svg+xml"},
      {".png", "image/png"},
      {".jpg", "image/jpeg"},
  };
  for (const Type& type : kTypes) {
    if (path.ends_with(type.suffix)) return type.name;
  }
  return "application/octet-stream";
}

}  // namespace escrow::examples

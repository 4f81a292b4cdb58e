#include "bench/cached_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <expected>
#include <iterator>
#include <string>
#include <system_error>

#include "escrow/ownership/descriptor.h"

namespace escrow::bench {

using ownership::Descriptor;

namespace {

std::unexpected<std::error_code> Failure(int error) {
  return std::unexpected(std::error_code(error, std::system_category()));
}

}  // namespace

std::expected<Descriptor, std::error_code> CachedFile(std::size_t blocks,
                                                      std::size_t size) {
  const char* const directory = std::getenv("TMPDIR");
  std::string path = directory != nullptr ? directory : "/tmp";
  path += "/escrow_bench_XXXXXX";
  const int number = ::mkstemp(path.data());
  if (number < 0) return Failure(errno);
  Descriptor file = Descriptor::Adopt(number);
  ::unlink(path.c_str());
  const std::string block(size, 'x');
  for (std::size_t i = 0; i < blocks; ++i) {
    errno = ENOSPC;
    if (::write(number, block.data(), size) != std::ssize(block)) {
      return Failure(errno);
    }
  }
  return file;
}

}  // namespace escrow::bench

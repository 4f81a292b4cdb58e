#ifndef ESCROW_FUZZ_WORLD_H_
#define ESCROW_FUZZ_WORLD_H_

#include <array>
#include <cstddef>
#include <system_error>

#include "escrow/fuzz/check.h"
#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"

// What programs of the fuzz targets work on.

namespace escrow::fuzz {

// What files and messages consist of.
inline constexpr std::size_t kFileBytes = 2048;  // that nothing writes to
inline constexpr std::byte kSent{0x5a};
inline std::byte FileByte(std::size_t offset) {
  return static_cast<std::byte>(offset * 7 % 251 + 1);
}
inline void RequireSent(const std::byte* data, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) ESCROW_REQUIRE(data[i] == kSent);
}
inline void RequireOfFile(const std::byte* data, std::size_t size,
                          std::size_t offset) {
  for (std::size_t i = 0; i < size; ++i) {
    ESCROW_REQUIRE(data[i] == FileByte(offset + i));
  }
}

// Of FileByte(), twice as long as kFileBytes.
ownership::Descriptor MakeFile();
// Two of the process: what nothing writes to, and what is written to.
const ownership::Descriptor& File();
const ownership::Descriptor& Scratch();

struct Ends {
  ownership::Descriptor here;
  ownership::Descriptor there;
};
Ends MakePipe();    // read from `here`
Ends MakeStream();  // both ends of a connection

// Writes up to 256 bytes of kSent into a pipe or a socket, unless that would
// wait.
void Feed(const ownership::Descriptor& end, std::size_t size);

ownership::Buffer MakeBuffer(std::size_t size, std::byte value = std::byte{0});

// What the kernel may say instead of taking what is submitted, or waiting.
bool IsRefusal(const std::error_code& error);

// Requires that the descriptors that are open when it is destroyed are those
// that were when it was made, with those of the process. Looks at the first
// ones: a process that a fuzzer runs has few.
class DescriptorsStay {
 public:
  DescriptorsStay();
  DescriptorsStay(const DescriptorsStay&) = delete;
  DescriptorsStay& operator=(const DescriptorsStay&) = delete;
  ~DescriptorsStay() { ESCROW_REQUIRE(Open() == before_); }

 private:
  using Descriptors = std::array<bool, 128>;
  static Descriptors Open();

  Descriptors before_;
};

}  // namespace escrow::fuzz

#endif  // ESCROW_FUZZ_WORLD_H_

// main() for fuzz targets where there is no libFuzzer: runs the target on every
// seed and on random changes of them. Understands of libFuzzer's command line
//
//   [-runs=N] [-seed=N] FILE_OR_DIRECTORY...
//
// and ignores other flags. The same arguments make the same inputs.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <system_error>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size);

namespace {

using Input = std::vector<std::uint8_t>;

constexpr std::size_t kLongestInput = 512;

Input ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    std::exit(1);
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  // From 0 to `bound` - 1. (Distributions of the standard library differ.)
  std::size_t Below(std::size_t bound) { return engine_() % bound; }

 private:
  std::mt19937_64 engine_;
};

Input Change(Input input, Random& random) {
  for (std::size_t changes = random.Below(8) + 1; changes > 0; --changes) {
    const std::size_t at = random.Below(input.size() + 1);
    const auto where = input.begin() + static_cast<std::ptrdiff_t>(at);
    const auto byte = static_cast<std::uint8_t>(random.Below(256));
    switch (random.Below(4)) {
      case 0:
        input.insert(where, byte);
        break;
      case 1:
        if (where != input.end()) input.erase(where);
        break;
      case 2:
        if (where != input.end()) *where = byte;
        break;
      case 3: {
        const Input copy(input.begin(), where);
        input.insert(input.end(), copy.begin(), copy.end());
        break;
      }
    }
  }
  if (input.size() > kLongestInput) input.resize(kLongestInput);
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t runs = 0;
  std::uint64_t seed = 1;
  std::vector<Input> inputs = {{}};
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("-runs=", 0) == 0) {
      runs = std::strtoull(argument.c_str() + 6, nullptr, 10);
    } else if (argument.rfind("-seed=", 0) == 0) {
      seed = std::strtoull(argument.c_str() + 6, nullptr, 10);
    } else if (argument[0] == '-') {
      continue;
    } else if (std::filesystem::is_directory(argument)) {
      for (const auto& entry : std::filesystem::directory_iterator(argument)) {
        inputs.push_back(ReadFile(entry.path()));
      }
    } else {
      inputs.push_back(ReadFile(argument));
    }
  }
  for (const Input& input : inputs) {
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  Random random(seed);
  for (std::size_t run = 0; run < runs; ++run) {
    const Input input = Change(inputs[random.Below(inputs.size())], random);
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("%zu seeds, %zu changed inputs\n", inputs.size(), runs);
}

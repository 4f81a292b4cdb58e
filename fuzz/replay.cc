// main() for fuzz targets where there is no libFuzzer: runs the target on every
// seed and on random changes of them. Understands of libFuzzer's command line
//
//   [-runs=N] [-max_total_time=SECONDS] [-seed=N] FILE_OR_DIRECTORY...
//
// and ignores other flags. The same arguments make the same inputs. With
// neither -runs nor -max_total_time it runs the seeds only. `-` is an input
// from the standard input. Compiled by afl-clang-fast, and run without
// arguments, it takes what AFL++ gives it, thousands of inputs per process.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#ifdef __AFL_COMPILER
#include <unistd.h>
__AFL_FUZZ_INIT();
#endif

extern "C" {
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
// Targets may have these.
__attribute__((weak)) int LLVMFuzzerInitialize(int* argc, char*** argv);
__attribute__((weak)) std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data,
                                                          std::size_t size,
                                                          std::size_t max_size,
                                                          unsigned seed);
__attribute__((weak)) std::size_t LLVMFuzzerCustomCrossOver(
    const std::uint8_t* first, std::size_t first_size,
    const std::uint8_t* second, std::size_t second_size, std::uint8_t* out,
    std::size_t max_out_size, unsigned seed);
// What a custom mutator may call.
std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size,
                             std::size_t max_size);
}

namespace {

using Input = std::vector<std::uint8_t>;

constexpr std::size_t kLongestInput = 512;
constexpr std::size_t kMostKept = 256;  // of changed inputs

Input ReadAll(std::istream& file) {
  return {std::istreambuf_iterator<char>(file), {}};
}

Input ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    std::exit(1);
  }
  return ReadAll(file);
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  // From 0 to `bound` - 1. (Distributions of the standard library differ.)
  std::size_t Below(std::size_t bound) { return engine_() % bound; }
  unsigned Seed() { return static_cast<unsigned>(engine_()); }

 private:
  std::mt19937_64 engine_;
};

Random* random_of_run = nullptr;

Input ChangeBytes(Input input, Random& random) {
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

Input Change(const std::vector<Input>& inputs, Random& random) {
  Input input = inputs[random.Below(inputs.size())];
  if (LLVMFuzzerCustomMutator == nullptr) {
    return ChangeBytes(std::move(input), random);
  }
  if (LLVMFuzzerCustomCrossOver != nullptr && random.Below(4) == 0) {
    const Input& other = inputs[random.Below(inputs.size())];
    Input crossed(kLongestInput);
    crossed.resize(LLVMFuzzerCustomCrossOver(
        input.data(), input.size(), other.data(), other.size(), crossed.data(),
        crossed.size(), random.Seed()));
    input = std::move(crossed);
  }
  for (std::size_t changes = random.Below(6) + 1; changes > 0; --changes) {
    const std::size_t size = std::min(input.size(), kLongestInput);
    input.resize(kLongestInput);
    input.resize(LLVMFuzzerCustomMutator(input.data(), size, kLongestInput,
                                         random.Seed()));
  }
  return input;
}

// From a buffer of its own, of which a sanitizer knows the end.
void RunOne(const Input& input) {
  const Input copy(input);
  (void)LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

#ifdef __AFL_COMPILER
int RunForAfl() {
  __AFL_INIT();
  const unsigned char* const data = __AFL_FUZZ_TESTCASE_BUF;
  while (__AFL_LOOP(10000)) {
    RunOne(Input(data, data + __AFL_FUZZ_TESTCASE_LEN));
  }
  return 0;
}
#endif

}  // namespace

std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size,
                             std::size_t max_size) {
  const Input changed = ChangeBytes(Input(data, data + size), *random_of_run);
  const std::size_t length = std::min(changed.size(), max_size);
  std::copy_n(changed.begin(), length, data);
  return length;
}

int main(int argc, char** argv) {
  if (LLVMFuzzerInitialize != nullptr) LLVMFuzzerInitialize(&argc, &argv);
#ifdef __AFL_COMPILER
  if (argc == 1) return RunForAfl();
#endif
  std::uint64_t runs = 0;
  std::uint64_t seconds = 0;
  std::uint64_t seed = 1;
  bool bounded = false;
  std::vector<Input> inputs = {{}};
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto number = [&](const char* flag, std::uint64_t& value) {
      const std::size_t length = std::strlen(flag);
      if (argument.compare(0, length, flag) != 0) return false;
      value = std::strtoull(argument.c_str() + length, nullptr, 10);
      return true;
    };
    if (number("-runs=", runs)) {
      bounded = true;
    } else if (argument == "-") {
      inputs.push_back(ReadAll(std::cin));
    } else if (number("-seed=", seed) || number("-max_total_time=", seconds) ||
               argument[0] == '-') {
      continue;
    } else if (std::filesystem::is_directory(argument)) {
      std::vector<std::filesystem::path> files;
      for (const auto& entry : std::filesystem::directory_iterator(argument)) {
        files.push_back(entry.path());
      }
      std::sort(files.begin(), files.end());
      for (const auto& file : files) inputs.push_back(ReadFile(file));
    } else {
      inputs.push_back(ReadFile(argument));
    }
  }
  for (const Input& input : inputs) RunOne(input);
  Random random(seed);
  random_of_run = &random;
  if (!bounded && seconds > 0) runs = ~std::uint64_t{0};
  const auto start = std::chrono::steady_clock::now();
  const std::size_t seeds = inputs.size();
  std::uint64_t run = 0;
  while (run < runs) {
    if (seconds > 0 && std::chrono::steady_clock::now() - start >=
                           std::chrono::seconds(seconds)) {
      break;
    }
    Input changed = Change(inputs, random);
    RunOne(changed);
    ++run;
    // Changes are changed further: else inputs would stay close to the seeds.
    if (random.Below(4) != 0) continue;
    if (inputs.size() < seeds + kMostKept) {
      inputs.push_back(std::move(changed));
    } else {
      inputs[seeds + random.Below(kMostKept)] = std::move(changed);
    }
  }
  std::printf("%zu seeds, %llu changed inputs\n", seeds,
              static_cast<unsigned long long>(run));
}

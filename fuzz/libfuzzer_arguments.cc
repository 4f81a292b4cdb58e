// Makes libFuzzer fit into a Bazel test: new inputs and crashes go to where a
// test may write, instead of beside the seeds.

#include <cstdlib>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  const char* const scratch = std::getenv("TEST_TMPDIR");
  const char* const outputs = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR");
  if (scratch == nullptr || outputs == nullptr) return 0;
  // libFuzzer keeps what points into these.
  static auto& texts = *new std::vector<std::string>;
  static auto& arguments = *new std::vector<char*>;
  texts = {std::string("-artifact_prefix=") + outputs + "/", scratch};
  // The first directory that it is given is the one it writes to.
  arguments.push_back((*argv)[0]);
  for (std::string& text : texts) arguments.push_back(text.data());
  arguments.insert(arguments.end(), *argv + 1, *argv + *argc);
  *argc = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);
  *argv = arguments.data();
  return 0;
}

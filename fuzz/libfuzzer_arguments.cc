// Makes libFuzzer fit what it fuzzes here, and into a Bazel test: new inputs
// and crashes go to where a test may write, instead of beside the seeds.

#include <cstdlib>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  // libFuzzer keeps what points into these.
  static auto& texts = *new std::vector<std::string>;
  static auto& arguments = *new std::vector<char*>;
  // How often a line ran says little about a program of a few actions, and
  // makes a corpus so large that libFuzzer is busy with nothing else.
  texts = {"-use_counters=0"};
  const char* const scratch = std::getenv("TEST_TMPDIR");
  const char* const outputs = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR");
  if (scratch != nullptr && outputs != nullptr) {
    texts.push_back(std::string("-artifact_prefix=") + outputs + "/");
    // The first directory that it is given is the one it writes to.
    texts.emplace_back(scratch);
  }
  arguments.push_back((*argv)[0]);
  for (std::string& text : texts) arguments.push_back(text.data());
  arguments.insert(arguments.end(), *argv + 1, *argv + *argc);
  *argc = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);
  *argv = arguments.data();
  return 0;
}

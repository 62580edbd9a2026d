// Runs a frozen graph from C++: loader MODEL.pb INPUT FILE OUTPUT
//
// The bytes of FILE are fed to the string placeholder INPUT, and the floats of OUTPUT are printed, one a line.
#include <fstream>
#include <iostream>
#include <iterator>

// README
#include <tensorflow/core/platform/env.h>
#include <tensorflow/core/public/session.h>

// The float values of `output` for the bytes of one image file.
absl::Status Run(const std::string& model, const std::string& input, const std::string& bytes,
                 const std::string& output, tensorflow::Tensor* result) {
  tensorflow::GraphDef graph;
  TF_RETURN_IF_ERROR(tensorflow::ReadBinaryProto(tensorflow::Env::Default(), model, &graph));
  std::unique_ptr<tensorflow::Session> session(tensorflow::NewSession({}));
  TF_RETURN_IF_ERROR(session->Create(graph));

  tensorflow::Tensor file(tensorflow::DT_STRING, {});
  file.scalar<tensorflow::tstring>()() = bytes;
  std::vector<tensorflow::Tensor> results;
  TF_RETURN_IF_ERROR(session->Run({{input, file}}, {output}, {}, &results));
  *result = results[0];
  return absl::OkStatus();
}
// README

int main(int count, char** words) {
  if (count != 5) {
    std::cerr << "loader MODEL.pb INPUT FILE OUTPUT\n";
    return 2;
  }
  std::ifstream file(words[3], std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  tensorflow::Tensor result;
  const auto status = Run(words[1], words[2], bytes, words[4], &result);
  if (!status.ok()) {
    std::cerr << status << "\n";
    return 1;
  }
  std::cout.precision(9);
  const auto values = result.flat<float>();
  for (int i = 0; i < values.size(); i++) std::cout << values(i) << "\n";
}

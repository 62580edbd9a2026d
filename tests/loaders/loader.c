/* Runs a frozen graph from C: loader MODEL.pb INPUT FILE OUTPUT [DIMENSION...]
 *
 * The bytes of FILE are fed to the placeholder INPUT: as one string where it takes encoded images, else as an array
 * with the given dimensions.  The values of OUTPUT are printed, one a line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>

static void check(TF_Status* status, const char* doing) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "%s: %s\n", doing, TF_Message(status));
  exit(1);
}

static TF_Buffer* read_file(const char* path) {
  FILE* file = fopen(path, "rb");
  if (!file) { perror(path); exit(1); }
  fseek(file, 0, SEEK_END);
  size_t size = ftell(file);
  rewind(file);
  char* bytes = malloc(size + 1);
  if (!bytes || fread(bytes, 1, size, file) != size) { perror(path); exit(1); }
  fclose(file);
  TF_Buffer* buffer = TF_NewBufferFromString(bytes, size);
  free(bytes);
  return buffer;
}

/* README */
/* The graph of a .pb file, in a session that is ready to run. */
static TF_Session* load(TF_Graph* graph, const char* path, TF_Status* status) {
  TF_Buffer* file = read_file(path);
  TF_ImportGraphDefOptions* import = TF_NewImportGraphDefOptions();
  TF_GraphImportGraphDef(graph, file, import, status);
  TF_DeleteImportGraphDefOptions(import);
  TF_DeleteBuffer(file);
  check(status, path);

  TF_SessionOptions* options = TF_NewSessionOptions();
  TF_Session* session = TF_NewSession(graph, options, status);
  TF_DeleteSessionOptions(options);
  check(status, "session");
  return session;
}

/* One output for one input, by name. */
static TF_Tensor* run(TF_Session* session, TF_Graph* graph, const char* input, TF_Tensor* fed, const char* output,
                      TF_Status* status) {
  TF_Output in = {TF_GraphOperationByName(graph, input), 0};
  TF_Output out = {TF_GraphOperationByName(graph, output), 0};
  if (!in.oper || !out.oper) {
    fprintf(stderr, "the graph has no %s\n", in.oper ? output : input);
    exit(1);
  }
  TF_Tensor* result = NULL;
  TF_SessionRun(session, NULL, &in, &fed, 1, &out, &result, 1, NULL, 0, NULL, status);
  check(status, output);
  return result;
}

/* The bytes of an image file, for an input of kind "encoded". */
static TF_Tensor* string_tensor(const void* bytes, size_t size) {
  TF_Tensor* tensor = TF_AllocateTensor(TF_STRING, NULL, 0, sizeof(TF_TString));
  TF_TString* text = TF_TensorData(tensor);
  TF_StringInit(text);
  TF_StringCopy(text, bytes, size);
  return tensor;
}
/* README */

/* Raw samples, for an input of kind "pixels" or "tensor". */
static TF_Tensor* array_tensor(TF_DataType type, const TF_Buffer* samples, const int64_t* dims, int rank) {
  size_t size = TF_DataTypeSize(type);
  for (int i = 0; i < rank; i++) size *= dims[i];
  if (size != samples->length) {
    fprintf(stderr, "these dimensions make %zu bytes, and the file has %zu\n", size, samples->length);
    exit(1);
  }
  TF_Tensor* tensor = TF_AllocateTensor(type, dims, rank, size);
  memcpy(TF_TensorData(tensor), samples->data, size);
  return tensor;
}

static void print(const TF_Tensor* tensor) {
  const void* data = TF_TensorData(tensor);
  for (int64_t i = 0; i < TF_TensorElementCount(tensor); i++) {
    switch (TF_TensorType(tensor)) {
      case TF_FLOAT: printf("%.9g\n", ((const float*)data)[i]); break;
      case TF_INT32: printf("%d\n", ((const int32_t*)data)[i]); break;
      case TF_INT64: printf("%lld\n", (long long)((const int64_t*)data)[i]); break;
      case TF_UINT8: printf("%d\n", ((const uint8_t*)data)[i]); break;
      case TF_STRING: {
        const TF_TString* text = (const TF_TString*)data + i;
        printf("%.*s\n", (int)TF_StringGetSize(text), TF_StringGetDataPointer(text));
        break;
      }
      default: fprintf(stderr, "this program prints no values of type %d\n", TF_TensorType(tensor)); exit(1);
    }
  }
}

int main(int count, char** words) {
  if (count < 5 || count > 13) {
    fprintf(stderr, "loader MODEL.pb INPUT FILE OUTPUT [DIMENSION...]\n");
    return 2;
  }
  const char *model = words[1], *input = words[2], *path = words[3], *output = words[4];
  TF_Status* status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_Session* session = load(graph, model, status);
  TF_Operation* placeholder = TF_GraphOperationByName(graph, input);
  if (!placeholder) {
    fprintf(stderr, "the graph has no %s\n", input);
    return 1;
  }
  TF_DataType type = TF_OperationOutputType((TF_Output){placeholder, 0});
  TF_Buffer* file = read_file(path);
  int64_t dims[8];
  for (int i = 5; i < count; i++) dims[i - 5] = atoll(words[i]);
  TF_Tensor* fed = type == TF_STRING ? string_tensor(file->data, file->length)
                                     : array_tensor(type, file, dims, count - 5);
  TF_Tensor* result = run(session, graph, input, fed, output, status);
  print(result);

  if (type == TF_STRING) TF_StringDealloc(TF_TensorData(fed));
  TF_DeleteTensor(result);
  TF_DeleteTensor(fed);
  TF_DeleteBuffer(file);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}

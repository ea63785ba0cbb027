/* Answers from a SavedModel by TensorFlow's C API alone, as a server does: infer DIR INPUT OUTPUT B H W, whose standard
   input holds B*H*W*3 floats; it writes the output's floats to standard output. INPUT and OUTPUT are names like name:0. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tensorflow/c/c_api.h"

static void check(TF_Status *status) {
  if (TF_GetCode(status) != TF_OK) {
    fprintf(stderr, "%s\n", TF_Message(status));
    exit(1);
  }
}

static TF_Output named(TF_Graph *graph, char *name) {
  char *colon = strchr(name, ':');
  *colon = 0;
  TF_Output output = {TF_GraphOperationByName(graph, name), atoi(colon + 1)};
  if (!output.oper) {
    fprintf(stderr, "no operation %s\n", name);
    exit(1);
  }
  return output;
}

int main(int count, char **words) {
  if (count != 7) return 2;
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(TF_NewSessionOptions(), NULL, words[1], tags, 1, graph, NULL, status);
  check(status);
  TF_Output input = named(graph, words[2]), output = named(graph, words[3]);
  int64_t shape[] = {atoll(words[4]), atoll(words[5]), atoll(words[6]), 3};
  size_t bytes = sizeof(float) * shape[0] * shape[1] * shape[2] * shape[3];
  TF_Tensor *images = TF_AllocateTensor(TF_FLOAT, shape, 4, bytes), *found = NULL;
  if (fread(TF_TensorData(images), 1, bytes, stdin) != bytes) return 3;
  TF_SessionRun(session, NULL, &input, &images, 1, &output, &found, 1, NULL, 0, NULL, status);
  check(status);
  fwrite(TF_TensorData(found), 1, TF_TensorByteSize(found), stdout);
  TF_CloseSession(session, status);
  check(status);
  return 0;
}

"""Export of runs and committees to files that run without Keras: SavedModel, LiteRT, ONNX, TensorFlow Serving."""

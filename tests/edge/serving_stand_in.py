"""A substitute for TensorFlow Serving in a separate process: its Predict API with the original messages."""

import asyncio
import sys

from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import get_model_status_pb2, predict_pb2

from tests.edge.faulty_member import Faulty, logits, main

VERSION = 42


class Server(Faulty):
    def services(self):
        return {
            "tensorflow.serving.PredictionService": {"Predict": self.infer},
            "tensorflow.serving.ModelService": {"GetModelStatus": self.ready},
        }

    async def ready(self, content, context):
        query = get_model_status_pb2.GetModelStatusRequest.FromString(content)
        response = get_model_status_pb2.GetModelStatusResponse()
        if query.model_spec.name == f"served.{self.name}":
            state = "LOADING" if self.word == "unready" else "AVAILABLE"
            state = get_model_status_pb2.ModelVersionStatus.State.Value(state)
            response.model_version_status.add(version=VERSION, state=state)
        return response.SerializeToString()

    async def infer(self, content, context):
        """Answer with floats as raw content or as values; the real server uses both."""
        import tensorflow as tf

        self.count += 1
        request = predict_pb2.PredictRequest.FromString(content)
        expected = (f"served.{self.name}", "serving_default", ["logits"], ["image"], types_pb2.DT_FLOAT)
        spec, image = request.model_spec, request.inputs["image"]
        result = (spec.name, spec.signature_name, [*request.output_filter], [*request.inputs], image.dtype)
        if result != expected:
            raise ValueError(f"asked for {result}")
        answer = await self.spoiled(logits(self.name, tf.make_ndarray(image)), context)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = spec.name
        response.model_spec.version.value = VERSION
        if self.word == "values":
            response.outputs["logits"].dtype = types_pb2.DT_FLOAT
            response.outputs["logits"].float_val.extend(answer.ravel().tolist())
            for size in answer.shape:
                response.outputs["logits"].tensor_shape.dim.add(size=size)
        elif self.word != "nothing":
            response.outputs["logits"].CopyFrom(tf.make_tensor_proto(answer))
        return response.SerializeToString()


if __name__ == "__main__":
    asyncio.run(main(Server, *sys.argv[1:]))

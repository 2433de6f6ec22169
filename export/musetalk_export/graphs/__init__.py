"""The models as ONNX graphs: modules that trace well, and what is done to the traces."""

"""The models as ONNX graphs: modules that trace well, and passes over their traces."""

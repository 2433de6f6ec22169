"""The families of TensorRT versions, each behind one object: how a plan of it is told what to compute."""

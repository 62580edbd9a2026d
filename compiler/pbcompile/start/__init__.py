"""`init`: a first spec from a model file, or from the preprocessing config that came with it.  No TensorFlow."""

"""pbcompile: a Keras image model and its preprocessing, compiled into one self-contained TensorFlow graph file."""

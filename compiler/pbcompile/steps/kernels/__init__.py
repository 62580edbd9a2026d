"""The arithmetic behind the image steps, as TensorFlow ops; imported only while a graph is being made."""

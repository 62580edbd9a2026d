"""What every step and every error code means: the pages of `pbcompile help`, and the reference page made of them."""

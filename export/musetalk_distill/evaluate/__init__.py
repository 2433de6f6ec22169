"""``distill-student evaluate``: the quality of models on clips that they have not seen, and what a frame costs."""

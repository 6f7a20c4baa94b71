"""The model once more, for speed alone: the weights folded, nothing computed that nobody reads.

Every part says which plain part it equals. Weights are folded in float32 and rounded once, to the model's type;
results then differ from the plain path by rounding alone. The same functions run on the CPU and, recorded as one
CUDA graph (graphs.py), on a GPU: they look at no value and keep to static shapes.
"""

"""VLA-Adapter's own inference, restated operation by operation: the benchmarks' baseline and a second evaluation.

Written from the facts of the reference (github.com/OpenHelix-Team/VLA-Adapter, commit 838a36d, with timm 0.9.10
and transformers 4.40.1). It does what the reference does and computes each thing when the reference does,
also what nobody reads: images one after the other at batch 1, each tower's last block, placeholder embeddings
that a mask replaces, 64 queries and a stop token, a key-value cache, the output matrix over all positions,
all hidden states stacked, rotary tables built for every block. In the published form it is the reference; of
the sound form's options it knows what our models use, so that the same weights run in both.
"""

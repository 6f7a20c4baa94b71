"""The policy node: observations, model, ensembled chunks, commands through the gate."""

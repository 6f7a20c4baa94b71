"""Action heads: from features to a chunk of actions."""

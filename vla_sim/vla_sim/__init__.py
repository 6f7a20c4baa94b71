"""The simulated ALOHA rig behind the real rig's topics, and its scripted demonstrator."""

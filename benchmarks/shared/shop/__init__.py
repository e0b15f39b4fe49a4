"""The shop: the agents' built-in world, of which the general world's pre-training corpus has a few dialogues, too."""

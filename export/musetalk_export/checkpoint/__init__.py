"""Checkpoints: where their files lie, their configs, their weights, and random ones."""

"""Checkpoints: their files, configs, weights and models, and presets with random weights."""

"""Avatars that are uploaded: received, prepared, kept."""

"""Uploaded avatars: their upload, their preparation, and the folder they are kept in."""

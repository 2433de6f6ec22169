"""The scheduling of the engines: admission of sessions, and batches of the frames of all sessions."""

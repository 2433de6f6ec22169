"""Who gets the engines: admission, and batches of frames of all sessions."""

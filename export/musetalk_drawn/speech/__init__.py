"""The speech of a drawn person: sentences, synthetic voice, and the movement of the mouth."""

"""Text to speech: engines that synthesize it, and their speech as audio that a session hears."""

"""Speech: from a file or a microphone to the tokens and the sound of each video frame."""

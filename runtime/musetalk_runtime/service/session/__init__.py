"""A live session: its speech, its stream, its pace, and its push to a media server."""

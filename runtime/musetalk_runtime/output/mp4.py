"""How FFmpeg writes fragmented MP4."""

# Without skip_trailer FFmpeg keeps 40 bytes a fragment and track, for an index at the end that no stream needs.
MP4_FLAGS = "empty_moov+default_base_moof+frag_keyframe+skip_trailer"

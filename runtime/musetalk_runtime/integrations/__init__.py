"""Voice agents' frameworks: an avatar as a part of them."""

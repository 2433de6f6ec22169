"""The drawing of a person: identity, pose, mouth, and the pictures made of them."""

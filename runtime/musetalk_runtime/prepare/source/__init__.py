"""The videos and photos that avatars are made of, as upright frames."""

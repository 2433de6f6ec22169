"""What a drawn person says, and how the mouth moves with it."""

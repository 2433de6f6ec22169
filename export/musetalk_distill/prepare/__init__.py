"""``distill-student prepare``: training shards made of videos of people who speak."""

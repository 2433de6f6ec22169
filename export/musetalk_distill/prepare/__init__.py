"""Videos of people who speak to training shards."""

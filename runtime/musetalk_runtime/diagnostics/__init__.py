"""What a machine has and does: doctor, support files, benchmarks, the self test."""

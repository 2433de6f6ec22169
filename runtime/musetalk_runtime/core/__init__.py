"""What every other package of the runtime builds on: errors, sizes of the model, threads, times."""

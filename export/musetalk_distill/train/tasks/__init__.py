"""The training tasks (student, teacher, decoder), with their models, losses and options."""

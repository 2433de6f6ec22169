"""``distill-student train``: the training of a student, a teacher or a small decoder."""

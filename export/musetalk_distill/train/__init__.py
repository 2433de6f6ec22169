"""``distill-student train``: a student from its teacher, a teacher from the truth, a small decoder from a big one."""

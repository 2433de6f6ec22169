"""What is trained: tasks, their models and their losses."""

"""Workstation: teach a small student what the teacher shows. Needs PyTorch."""

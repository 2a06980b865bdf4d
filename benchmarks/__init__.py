"""Benchmarks: the journey from enqueue to receipt, and the codec. README.md says what they measure and how."""

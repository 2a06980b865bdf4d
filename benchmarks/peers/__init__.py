"""The peers of Tocsin, each played over the sink of the benchmarks: see ``benchmarks.bench_peers``."""

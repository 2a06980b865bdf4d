"""Tables and pictures made from the result files of the benchmarks, so that no figure is written by hand."""

"""Stand-ins for tests and benchmarks, ours and third parties'."""

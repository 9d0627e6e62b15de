"""The stream stage: a pure core (arrays in, arrays out) and, in `streams.agents`, Faust around it."""

"""The contract: topics, schemas and examples, columnar frames, the codec. A leaf: knows nobody else."""

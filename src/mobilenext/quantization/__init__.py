"""Post-training int8."""

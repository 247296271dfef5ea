"""The experiments of scripts/search_experiments.py, a module each, and what they share (`runs`)."""

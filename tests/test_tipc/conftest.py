"""One repository for all tests of TIPC, and an export in it."""

from tipc_repository import exported, repository, small

__all__ = ["exported", "repository", "small"]

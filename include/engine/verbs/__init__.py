"""The procedures: what is done to any target, whatever its system.  They know contracts only."""

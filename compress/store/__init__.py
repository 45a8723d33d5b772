"""The store of what stages made: entries, leases of running jobs, garbage collection."""

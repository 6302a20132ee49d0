"""Running cases: workers, jobs, devices, and what a case does."""

"""Threads: a spinning work-stealing scheduler for short work, and a pool of sleeping threads for long calls."""

"""What this installation remembers, on disk.

Each file is written so that a crash leaves the old or the new one, is readable by its owner alone, and is guarded by a
lock, so that two processes in one home do not harm each other. What must survive is on disk before it is used.
"""

"""What each command does: plain functions, a verified command in, the effect and the reply out as values.

No broker, no database driver and no clock is known here; an import contract holds that.
"""

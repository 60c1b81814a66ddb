"""Settings of hypothesis for this folder: no deadlines, since the machine is shared and a slow moment is no fault."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

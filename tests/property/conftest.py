import os

from hypothesis import Phase, settings

# Whoever breaks something wants to see it soon: no explanation, and one failure at a time.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)

settings.register_profile(
    "dev",
    deadline=None,
    max_examples=60,
    stateful_step_count=40,
    phases=PHASES,
    report_multiple_bugs=False,
)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

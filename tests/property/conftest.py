import os

from hypothesis import settings

settings.register_profile("dev", deadline=None, max_examples=60, stateful_step_count=40)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

"""The slow loops above the policies: laws that move a parameter by how calls go.

Overload kills within a quarter of a second; what holds against that is inside the policies. A law
looks every few seconds, and moves their bounds and targets.
"""

from ninelives_grpc.laws.aimd import AimdLaw
from ninelives_grpc.laws.breaker_threshold import BreakerThresholdLaw
from ninelives_grpc.laws.bulkhead_size import BulkheadSizeLaw
from ninelives_grpc.laws.governor import GovernorLaw
from ninelives_grpc.laws.gradient import GradientLaw
from ninelives_grpc.laws.health_rate import HealthRateLaw
from ninelives_grpc.laws.law import ControlLaw, CustomLaw, Law, RunningLaw
from ninelives_grpc.laws.loop import FeedbackLoop
from ninelives_grpc.laws.metrics import Level, Metrics
from ninelives_grpc.laws.open_time import OpenTimeLaw
from ninelives_grpc.laws.pid import PidLaw
from ninelives_grpc.laws.prediction import PredictionLaw
from ninelives_grpc.laws.retry_budget import RetryBudgetLaw

__all__ = [
    "AimdLaw",
    "BreakerThresholdLaw",
    "BulkheadSizeLaw",
    "ControlLaw",
    "CustomLaw",
    "FeedbackLoop",
    "GovernorLaw",
    "GradientLaw",
    "HealthRateLaw",
    "Law",
    "Level",
    "Metrics",
    "OpenTimeLaw",
    "PidLaw",
    "PredictionLaw",
    "RetryBudgetLaw",
    "RunningLaw",
]

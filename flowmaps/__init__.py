"""flowmaps: learn the integral of a diffusion model."""

from . import exact, path
from .flow_map import Endpoint, FlowMap, GaussianSkip, Position, average_velocity

__all__ = ["Endpoint", "FlowMap", "GaussianSkip", "Position", "average_velocity", "exact", "path"]

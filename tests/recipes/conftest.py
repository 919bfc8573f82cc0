"""The small world and its finished run."""

from recipe_fixtures import finished_run, light_run, own_light_run, own_run, own_world, small_world

__all__ = ["finished_run", "light_run", "own_light_run", "own_run", "own_world", "small_world"]

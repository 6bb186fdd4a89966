"""HTTP as the routes see it: one call, its bounded body, its answer, its problems."""

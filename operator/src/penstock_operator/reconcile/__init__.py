"""One pass over one object: observe, plan, act, publish status. Repeating a pass from any point converges."""

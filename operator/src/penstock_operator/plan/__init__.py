"""From what is and what should be to what to do next, with a sentence why: pure, safe to repeat from any point."""

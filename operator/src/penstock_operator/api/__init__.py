"""The three resources: their fields, their rules, their schemas. Pure: nothing here talks to anybody."""

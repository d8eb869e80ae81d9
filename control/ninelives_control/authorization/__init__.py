"""Who may do what: rules, or policies in Cedar."""

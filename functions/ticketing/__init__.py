"""The ticket sale itself: rules, selling, the catalogue, the audit, and the one module that knows the table."""
